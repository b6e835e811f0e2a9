"""A list that came as JSON, kept as if it had been uploaded, so that it is downloaded and erased like any other."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Sequence
from typing import Any

from gateway.uploads.folder import upload_folder
from gateway.uploads.plan import Fates
from gateway.uploads.records import MAX_FIELD, Table
from shared.settings import Settings

LIST_TABLE: dict[str, Any] = Table(
    source="upload",
    encoding="utf-8",
    delimiter=",",
    skip_space=False,
    header_row=None,
    first_row=1,
    column=0,
    columns=["email"],
).to_document()
"""What belongs into the document of such a file as `table`."""


def keep_list(settings: Settings, file_id: str, emails: Sequence[str], fates: Fates) -> None:
    """Write upload and plan to the file's folder. Row n is `emails[n - 1]`, and `fates` those of all rows.

    Blocking; for lists of some ten thousands. Repeatable. The file's lock is to be held (folder.receiving).
    """
    folder = upload_folder(settings, file_id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "upload").open("w", encoding="utf-8", errors="replace", newline="") as stream:
        csv.writer(stream).writerows([email[:MAX_FIELD]] for email in emails)
    plan = array("I", range(1, len(emails) + 1))
    for row, first in fates.duplicates.items():
        plan[row - 1] = first
    (folder / "plan.bin").write_bytes(plan.tobytes())

"""Nothing of what was deleted stays in the file.

`secure_delete=FAST` wipes what is deleted inside pages that are written anyway. Two kinds of traces are left by it:

- Pages that became free as a whole keep their content until they are used again. So they are used, by a table of zeros,
  which is committed (a page that is freed in its own transaction is not written) and then dropped. At every scrub.
- Where a page was split, its unused middle may keep copies. Only writing the file anew (VACUUM) removes those. It takes
  some ten seconds for a gigabyte, in which writes wait: at every scrub of a file up to SMALL, else once a day.

Last the log, which holds old versions of pages, is folded back and cut.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

SMALL = 64 * 2**20  # bytes
_DAY = 86_400.0
_FILLER = '"_filler"'
_STEP = 512  # pages a transaction, so that other writes get in between


def overwrite_free_pages(connection: sqlite3.Connection) -> bool:
    """Use up to _STEP free pages for zeros; whether there are more."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.execute(f"CREATE TABLE IF NOT EXISTS {_FILLER} (zeros BLOB)")
    pages = min(free, _STEP)
    if not pages:
        return False
    # A payload of this size fills its overflow pages to the last byte (file format, section 1.6: an overflow page holds
    # all but 4 bytes, and the remainder stays in the table's own page).
    local = (page_size - 12) * 32 // 255 - 23 + 16
    connection.execute(f"INSERT INTO {_FILLER} VALUES (zeroblob(?))", (local + pages * (page_size - 4),))  # noqa: S608
    return bool(free > pages)


def drop_filler(connection: sqlite3.Connection) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {_FILLER}")


def write_anew(connection: sqlite3.Connection) -> None:
    """VACUUM, where it is time for it. The day of the last one is kept in the file, as `user_version`."""
    today = int(time.time() // _DAY)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    (last,) = connection.execute("PRAGMA user_version").fetchone()
    if pages * page_size > SMALL and last == today:
        return
    connection.execute("COMMIT")  # VACUUM takes no part in a transaction; what was written so far in this one stands
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA user_version = {today}")


def fold_log(path: Path, busy_seconds: float) -> None:
    """Write the log back into the file and empty it. Waits for readers; what still reads then keeps it for the next."""
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.close()

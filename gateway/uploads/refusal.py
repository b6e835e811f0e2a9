"""Why a list is not taken: what the analysis, a process of its own, tells the gateway."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """Nothing of the list is kept and nothing is charged. Becomes the problem answered to the uploader.

    `extra` members say where: `line` (1-based, as an editor counts), `row`, `field`, `byteOffset`, `columns`, `entry`.
    Details never quote the list's own cells, except header names.
    """

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.extra = extra


class OutOfSpace(Exception):
    """The disk is full or the file system refuses: our trouble, not the list's."""

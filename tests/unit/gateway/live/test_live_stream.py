"""What a reader is told of looks at a file's document."""

from __future__ import annotations

from typing import Any

from gateway.live.hub import Looked
from gateway.live.stream import FileStream


class Watched:
    """The side of a Watch that a stream ends by."""

    file_id = "f"
    ended = False

    def end(self) -> None:
        self.ended = True


def file(status: str, **fields: Any) -> dict[str, Any]:
    return {"_id": "f", "status": status, "uniqueEmails": 25, "malformed": 0, "totalBatches": 1, **fields}


def begun(watch: Watched) -> FileStream:
    stream = FileStream(None, None, watch, None, clock=lambda: 1_000.0)  # type: ignore[arg-type]
    stream._tell_state(file("processing"))
    return stream


def told(stream: FileStream, looked: dict[str, Any] | None) -> list[str | None]:
    return [event.event for event in stream._news(Looked(looked))]


def test_a_file_that_is_being_erased_is_followed_to_its_end() -> None:
    watch = Watched()
    stream = begun(watch)
    assert told(stream, file("processing", eraseState="running")) == []
    assert told(stream, file("cancelled", eraseState="done")) == ["progress", "stats", "done"]
    assert not watch.ended


def test_a_file_that_is_gone_ends_the_watch() -> None:
    watch = Watched()
    assert told(begun(watch), None) == []
    assert watch.ended

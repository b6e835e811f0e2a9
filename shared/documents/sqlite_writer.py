"""The one thread that writes: takes every write that waits, applies them in order, commits once, then answers.

A job that raises before it has written anything (a change that does not fit, say) fails alone. A job that SQLite itself
fails takes its transaction with it: every write in the group gets DocumentsUnavailable and none of them happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from shared.errors import DocumentsUnavailable

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], Any]
_GROUP = 256  # writes a transaction at most; bounds how long the first of them waits


class Writer:
    """Owns `connection` from now on and closes it at the end."""

    def __init__(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._waiting: queue.SimpleQueue[tuple[Job, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="documents-write", daemon=True)
        self._thread.start()

    async def submit(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run `job` in a transaction; its result once committed. A caller that is cancelled does not undo the write."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put((job, future))
        return await future

    def close(self) -> None:
        """Write what waits, then end. Blocks."""
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        going = True
        while going:
            first = self._waiting.get()
            group = [first] if first is not None else []
            going = first is not None
            while going and len(group) < _GROUP:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                going = following is not None
                if following is not None:
                    group.append(following)
            if group:
                answers = self._commit([job for job, _ in group])
                self._answer([(future, answer) for (_, future), answer in zip(group, answers, strict=True)])

    def _commit(self, jobs: list[Job]) -> list[Any]:
        """The results of `jobs`; an exception stands for itself."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [self._attempt(job) for job in jobs]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            failure = DocumentsUnavailable(f"the document store failed: {error}", setting="MAILVET_DATA_DIR")
            failure.__cause__ = error
            self._roll_back()
            return [failure] * len(jobs)
        return answers

    def _attempt(self, job: Job) -> Any:
        try:
            return job(self._connection)
        except (ValueError, TypeError) as error:
            return error

    def _roll_back(self) -> None:
        """SQLite ends the transaction itself on a full disk; where even that fails, the next BEGIN says so."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _answer(self, answers: list[tuple[asyncio.Future[Any], Any]]) -> None:
        def settle() -> None:
            for future, answer in answers:
                if future.done():  # its caller was cancelled
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)

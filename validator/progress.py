"""Live progress of running batches, a hint over Redis pub/sub: at most one message a batch every INTERVAL seconds.

Losing one, or all while Redis is away, costs a smooth progress bar and nothing else; the counts that matter come from
recorded results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys
from shared.logs import get_log
from shared.messages import BatchProgress

log = get_log("validator.progress")

INTERVAL = 0.5  # seconds


class ProgressReporter:
    """Collects counts synchronously and publishes the changed ones from one task."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._changed: dict[str, BatchProgress] = {}

    def of_batch(self, file_id: str, batch_id: str, attempt: int, *, already: int) -> Callable[[int], None]:
        """A callback that takes how many addresses of the probed part are answered."""

        def report(done: int) -> None:
            self._changed[batch_id] = BatchProgress(
                batch_id=batch_id, file_id=file_id, attempt=attempt, done=already + done
            )

        return report

    def forget(self, batch_id: str) -> None:
        """The batch is reported; a hint about it would come too late."""
        self._changed.pop(batch_id, None)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            changed, self._changed = self._changed, {}
            if not changed:
                continue
            try:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for progress in changed.values():
                        pipe.publish(redis_keys.BATCH_PROGRESS, progress.encode())
                    await pipe.execute()
            except RedisError as error:
                log.info("progress_unpublished", error=type(error).__name__)

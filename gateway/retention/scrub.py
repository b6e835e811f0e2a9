"""After something was deleted: the files behind the stores forget it as well."""

from __future__ import annotations

from redis.exceptions import RedisError

from gateway.parts import Parts
from shared.logs import get_log

log = get_log("gateway.retention")


async def scrub(parts: Parts) -> bool:
    """Of the document store, and of Redis's append-only file where there is one. False: do it again in a while.

    Raises DocumentsUnavailable.
    """
    await parts.documents.scrub()
    try:
        persistence = await parts.redis.info("persistence")
        if not persistence.get("aof_enabled"):
            return True
        if persistence.get("aof_rewrite_in_progress") or persistence.get("aof_rewrite_scheduled"):
            return False  # it may have begun before the deletion
        await parts.redis.bgrewriteaof()
    except RedisError as error:  # away, or not allowed to us: its operator's business
        log.warning("redis_not_scrubbed", error=type(error).__name__)
    return True

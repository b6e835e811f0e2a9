"""Logs: one JSON object a line on stderr; an event is a constant name plus fields. No address, key or token ever.

Identify what happened by ids (`file_id`, `batch_id`, `org_id`), never by addresses, mailbox domains or reply texts.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(level: str) -> None:
    """Set up structlog and the standard library's logging for this process. Called once, by the process's entry."""
    threshold = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(threshold, logging.WARNING), stream=sys.stderr, format="%(name)s %(levelname)s %(message)s"
    )
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what it says is raised to us as well


def get_log(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose lines carry `area=name`."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(area=name)
    return log

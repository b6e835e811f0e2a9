"""For all levels: log lines as the product writes them. structlog's own default draws every traceback with all its
variables, in colour, which takes seconds.
"""

from __future__ import annotations

import structlog


def pytest_configure() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )

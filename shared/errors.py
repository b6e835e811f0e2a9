"""The errors that cross a seam, as a tree.

MailvetError
├── SettingsError          a setting is missing or wrong: one line on stderr, exit code 2
├── ServerUnreachable      a server we need does not answer (temporary)
│   ├── BrokerUnavailable
│   ├── DocumentsUnavailable
│   ├── RedisUnavailable
│   └── ValidatorUnavailable
├── MessageUndecodable     bytes that are not a message of ours; keeps the bytes (permanent, goes to the dead letters)
└── Problem                an answer for the caller, rendered as RFC 9457 problem+json (gateway/problem.py raises these)

Every error says whether trying again later can help (`temporary`); the default is that it can.
"""

from __future__ import annotations

from typing import ClassVar


class MailvetError(Exception):
    """Base of every error of ours. The message never holds an address, a key or a token."""

    temporary: ClassVar[bool] = True


class SettingsError(MailvetError):
    """A setting that is missing or wrong. `setting` is the full environment name, such as MAILVET_AMQP_URL."""

    temporary = False

    def __init__(self, setting: str, why: str) -> None:
        super().__init__(f"{setting}: {why}")
        self.setting = setting
        self.why = why


class ServerUnreachable(MailvetError):
    """A server that we need does not answer. `setting` says where it is; for embedded ones that is the data folder."""

    setting: str = "MAILVET_DATA_DIR"

    def __init__(self, why: str, *, setting: str | None = None) -> None:
        super().__init__(why)
        if setting is not None:
            self.setting = setting


class BrokerUnavailable(ServerUnreachable):
    """Nothing was confirmed; the caller may publish the same message id again."""

    setting = "MAILVET_AMQP_URL"


class DocumentsUnavailable(ServerUnreachable):
    """The document store did not answer; a write may or may not have happened."""

    setting = "MAILVET_MONGO_URL"


class RedisUnavailable(ServerUnreachable):
    """Redis did not answer. Nothing in it is the only copy of anything."""

    setting = "MAILVET_REDIS_URL"


class ValidatorUnavailable(ServerUnreachable):
    """No validator answered the internal call."""

    setting = "MAILVET_VALIDATOR_URLS"


class MessageUndecodable(MailvetError):
    """Bytes that do not decode to a message of ours. Keeps them for the dead letters."""

    temporary = False

    def __init__(self, why: str, body: bytes) -> None:
        super().__init__(why)
        self.body = body

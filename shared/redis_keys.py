"""Every Redis key and channel, and who owns it. No key is spelled anywhere else.

Nothing here is the only copy of anything: a wiped Redis costs progress hints and politeness memory, never an address or
a credit. Every key has a time to live, set by its owner.
"""

from __future__ import annotations

import hashlib

# --- pub/sub channels ---
BATCH_PROGRESS = "batch_progress"  # validator -> gateway: messages.BatchProgress


def file_stats(file_id: str) -> str:
    """Channel: gateway -> everyone: the file's present counts, a JSON object with its event `id`."""
    return f"file_stats:{file_id}"


def file_emails(file_id: str) -> str:
    """Channel: gateway -> everyone: results just recorded, a JSON object with its event `id` and `items`."""
    return f"file_emails:{file_id}"


# --- streams ---
def file_events(file_id: str) -> str:
    """Stream: the last events of a file, for SSE resume. Entry id is the event id."""
    return f"file_events:{file_id}"


# --- validator: politeness shared by all validators ---
BREAKER_CHANGES = "breaker_changes"  # channel: a breaker changed its state


def breaker(mail_host: str) -> str:
    """Hash: state of the circuit breaker of one mail host."""
    return f"breaker:{mail_host}"


BREAKER_INDEX = "breaker_index"  # sorted set: mail hosts whose breaker is or was open; score = version of its state


def breaker_probe(mail_host: str) -> str:
    """String: lease of the one half-open session in the whole fleet."""
    return f"breaker_probe:{mail_host}"


def limit_slots(scope: str) -> str:
    """Sorted set: leased connection slots of a scope (`global`, `mx:{host}`, `provider:{name}`); score = expiry."""
    return f"limit_slots:{scope}"


def limit_rate(scope: str) -> str:
    """String: when the next session of a scope is due, in microseconds."""
    return f"limit_rate:{scope}"


def limit_next(scope: str) -> str:
    """String: the validator that gets the next free slot of a full scope."""
    return f"limit_next:{scope}"


LIMIT_EPOCH = "limit_epoch"  # string: names the life of the limits' data, so that a wipe is noticed
LIMIT_SETTLING = "limit_settling"  # string: exists for one lease after a wipe, while holders register again


def catch_all(domain: str) -> str:
    """String: what the last catch-all probe of a domain found; one probe per domain and day."""
    return f"catch_all:{domain}"


def verdicts(secret: bytes, org_id: str, domain: str, period: int | str) -> str:
    """Hash: definite verdicts about addresses of one domain that were found in one period of RESULT_CACHE_TTL.

    Fields: `verdict_field`, and the findings they point to. `secret`: SHA-256 of the internal token, which gateway and
    validators share. `period` may be a pattern.
    """
    question = f"{org_id}\0{domain}".encode()
    return f"verdicts:{hashlib.blake2b(question, key=secret, digest_size=16).hexdigest()}:{period}"


VERDICT_FIELD_BYTES = 10


def verdict_field(secret: bytes, org_id: str, address_key: str) -> bytes:
    """The field of an address in `verdicts`: a keyed hash of organisation and normalised address."""
    question = f"{org_id}\0{address_key}".encode()
    return hashlib.blake2b(question, key=secret, digest_size=VERDICT_FIELD_BYTES).digest()


# --- gateway ---
def request_rate(scope: str) -> str:
    """String: requests of one API key or client address in the present window."""
    return f"request_rate:{scope}"


KEYS_CHANGED = "api_keys_changed"  # channel: an API key was made or revoked; drop cached look-ups

"""Sealing of stored answers: readable only with the caller's own Idempotency-Key, which is not stored."""

from __future__ import annotations

import base64
import hashlib
import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12  # bytes, what AES-GCM takes


def _cipher(key: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"mailvet idempotent answer\0" + key.encode()).digest())


def seal(body: bytes, key: str, record_id: str) -> str:
    """Encrypt `body` for whoever holds `key`, bound to its record; text."""
    nonce = secrets.token_bytes(_NONCE)
    return base64.b64encode(nonce + _cipher(key).encrypt(nonce, body, record_id.encode())).decode()


def unseal(sealed: str, key: str, record_id: str) -> bytes:
    """What `seal` was given. Raises cryptography.exceptions.InvalidTag for another key or record."""
    raw = base64.b64decode(sealed)
    return _cipher(key).decrypt(raw[:_NONCE], raw[_NONCE:], record_id.encode())

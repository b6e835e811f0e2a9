"""Sealing: what is stored is readable only with a secret that is not stored beside it."""

from __future__ import annotations

import base64
import hashlib
import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12  # bytes, what AES-GCM takes


def _cipher(secret: str) -> AESGCM:
    return AESGCM(hashlib.sha256(b"mailvet idempotent answer\0" + secret.encode()).digest())


def seal(body: bytes, secret: str, record_id: str) -> str:
    """Encrypt `body` for whoever holds `secret`, bound to its record; text."""
    nonce = secrets.token_bytes(_NONCE)
    return base64.b64encode(nonce + _cipher(secret).encrypt(nonce, body, record_id.encode())).decode()


def unseal(sealed: str, secret: str, record_id: str) -> bytes:
    """What `seal` was given. Raises cryptography.exceptions.InvalidTag for another secret or record."""
    raw = base64.b64decode(sealed)
    return _cipher(secret).decrypt(raw[:_NONCE], raw[_NONCE:], record_id.encode())

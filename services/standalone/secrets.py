"""What a standalone installation makes for itself on its first start and keeps in DATA_DIR/secrets.json (mode 0600)."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.errors import SettingsError
from shared.settings import Settings

FILE = "secrets.json"
VALIDATOR_URL_FILE = "validator.url"  # where the running system's internal API listens


@dataclass(frozen=True)
class Secrets:
    api_key: str
    internal_token: str


def own_secrets(settings: Settings) -> Secrets:
    """Settings win; what they do not say is read from the data folder, or made and written there first."""
    path = settings.data_dir / FILE
    kept: dict[str, str] = {}
    if path.exists():
        try:
            kept = json.loads(path.read_text())
        except ValueError as error:
            raise SettingsError("MAILVET_DATA_DIR", f"{path} is damaged; remove it to get a new API key") from error
    made = {
        "api_key": kept.get("api_key") or f"mv_local_{secrets.token_hex(24)}",
        "internal_token": kept.get("internal_token") or secrets.token_hex(32),
    }
    if made != kept:
        part = path.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(made, out)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    return Secrets(
        api_key=settings.api_key or made["api_key"], internal_token=settings.internal_token or made["internal_token"]
    )


def note_validator_url(settings: Settings, url: str) -> None:
    """Let `mailvet explain mx` find the running system's validator."""
    (settings.data_dir / VALIDATOR_URL_FILE).write_text(url + "\n")


def with_own_validator(settings: Settings) -> Settings:
    """Where VALIDATOR_URLS is not set: the way to the standalone system's validator on the same data folder."""
    noted = settings.data_dir / VALIDATOR_URL_FILE
    if "validator_urls" in settings.model_fields_set or not noted.exists():
        return settings
    update = {"internal_token": own_secrets(settings).internal_token, "validator_urls": (noted.read_text().strip(),)}
    return settings.model_copy(update=update)


def lock_data_dir(data_dir: Path) -> IO[str]:
    """Hold DATA_DIR for this process; the lock dies with it. Raises SettingsError when another process has it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = (data_dir / "lock").open("w")
    except OSError as error:
        raise SettingsError("MAILVET_DATA_DIR", f"cannot write to {data_dir}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise SettingsError("MAILVET_DATA_DIR", f"{data_dir} is in use by another mailvet process") from error
    return handle

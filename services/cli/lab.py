"""`mailvet lab`: the mail lab by itself, with the settings that point a validator at it."""

from __future__ import annotations

from pathlib import Path

from services.maillab.lab import Lab, LabError
from services.maillab.serve import serve, settings_to_export
from services.maillab.world import WorldError
from shared.errors import SettingsError


async def run_lab(*, port: int, dns_port: int, world: Path | None, log: Path | None) -> int:
    """Until a signal; then the complaints of the mail servers, if any."""

    def ready(lab: Lab) -> None:
        print(settings_to_export(lab), flush=True)
        print(
            f"# {len(lab.world.domains)} domains on {len(lab.world.hosts)} mail hosts; Ctrl-C ends the lab", flush=True
        )

    try:
        complaints = await serve(port=port, dns_port=dns_port, world_file=world, log_file=log, ready=ready)
    except LabError as error:
        raise SettingsError("--port", str(error)) from error
    except WorldError as error:
        raise SettingsError("--world", str(error)) from error
    for complaint in complaints:
        print(complaint)
    return 0

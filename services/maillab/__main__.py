"""`python -m services.maillab`: the lab in a process of its own, for tests and benchmarks.

Prints one JSON line `{"dns", "smtp_port", "pid", "env"}` when it can be reached; SIGTERM ends it, exit code 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import uvloop

from services.maillab.lab import Lab
from services.maillab.serve import serve
from shared.errors import MailvetError


def _announce(lab: Lab) -> None:
    ready = {"dns": lab.dns, "smtp_port": lab.smtp_port, "pid": os.getpid(), "env": lab.env()}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


def run() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.maillab", description="the mail lab")
    parser.add_argument("--port", type=int, default=0, help="of the mail servers; 0: any free one")
    parser.add_argument("--dns-port", type=int, default=0)
    parser.add_argument("--world", type=Path, help="a TOML file; without: the sample world")
    parser.add_argument("--log", type=Path, help="where to write the wire log")
    parser.add_argument("--rtt", type=float, default=0.0, help="simulated round trip time in seconds")
    told = parser.parse_args()
    try:
        uvloop.run(
            serve(
                port=told.port,
                dns_port=told.dns_port,
                world_file=told.world,
                log_file=told.log,
                rtt=told.rtt,
                ready=_announce,
            ),
        )
    except MailvetError as error:
        sys.stderr.write(f"maillab: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run())

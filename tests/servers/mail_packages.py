"""Debian's Postfix and Exim, unpacked side by side into .tools/mail by deploy/bootstrap/servers.sh, never installed.

Two libraries of the cwrap project make them run as whoever runs the tests: nss_wrapper shows the servers accounts that
the machine does not have, uid_wrapper lets them believe that they change to these. See docs/decisions/0023.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2] / ".tools" / "mail"
ACCOUNT = 54321  # of the servers, where the tests run as root
GROUP = 54322  # Postfix wants one that nobody has as the first


def missing(program: str) -> str | None:
    """Why `program` (a path below ROOT) cannot run here."""
    wrappers = [*ROOT.glob("usr/lib/*/libnss_wrapper.so"), *ROOT.glob("usr/lib/*/libuid_wrapper.so")]
    if (ROOT / program).exists() and len(wrappers) == 2:
        return None
    return f"no {program} in {ROOT}; run: make servers (needs apt-get)"


def environment(folder: Path) -> dict[str, str]:
    """What a server must find in its environment; writes the accounts into `folder`. All is to be handed on to children."""
    passwd, group = folder / "passwd", folder / "group"
    own = os.getuid() or ACCOUNT  # Postfix looks whose its data_directory is
    passwd.write_text(
        "root:x:0:0::/:/bin/sh\n"
        f"postfix:x:{own}:{ACCOUNT}::/:/bin/sh\n"
        f"Debian-exim:x:{own}:{ACCOUNT}::/:/bin/sh\n"
        "nobody:x:65534:65534::/:/bin/sh\n"
    )
    group.write_text(
        f"root:x:0:\npostfix:x:{ACCOUNT}:\nDebian-exim:x:{ACCOUNT}:\npostdrop:x:{GROUP}:\nnogroup:x:65534:\n"
    )
    folders = [str(path) for path in (*ROOT.glob("usr/lib/*-linux-gnu*"), ROOT / "usr" / "lib" / "postfix")]
    return {
        "LD_LIBRARY_PATH": ":".join(folders),
        "LD_PRELOAD": "libnss_wrapper.so libuid_wrapper.so",
        "NSS_WRAPPER_PASSWD": str(passwd),
        "NSS_WRAPPER_GROUP": str(group),
        "UID_WRAPPER": "1",
        "UID_WRAPPER_ROOT": "1",
    }

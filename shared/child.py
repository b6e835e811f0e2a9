"""Children that end when we do, also when we are killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Runs in a small Python of its own, which then becomes the server: between fork and exec of a process with threads
# nothing of Python may be run safely. 1 is PR_SET_PDEATHSIG, 9 SIGKILL. The signal comes when the *thread* that started
# the child ends, so start such children from the main thread.
_TIE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied_to_us(command: Sequence[str]) -> list[str]:
    """`command` so that Linux kills it when this process ends, however that happens. Elsewhere `command` itself."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]

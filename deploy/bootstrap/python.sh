#!/usr/bin/env bash
# Creates .venv with a Python of at least 3.11. PYTHON names the interpreter to use.
set -euo pipefail
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "setup: no '$python' found; install Python 3.11 or newer, or set PYTHON" >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "setup: '$python' is $("$python" -V 2>&1); Python 3.11 or newer is needed, set PYTHON to one" >&2; exit 2; }
if ! [ -x .venv/bin/python ]; then
  echo "setup: creating .venv with $("$python" -V)"
  "$python" -m venv .venv 2>/dev/null \
    || { echo "setup: '$python' cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 2; }
fi

"""Programs in other languages that benchmarks run, built once into `.tools/bench` and found there the next time.

Compilers and package tools are used where they are and are asked for nothing else than the pinned packages; whatever
is missing is a `NotBuiltError` with one line that says what. A program's file name holds a digest of its sources and
of the commands that build it, so a change of either builds anew. Builds run at the lowest priority on one processor.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".tools" / "bench"
BUILD_SECONDS = 1_800  # Reacher has 270 crates


class NotBuiltError(Exception):
    """The program cannot be had here; the message is the reason, in one line."""


@dataclass(frozen=True)
class CompiledPeer:
    """Somebody else's verifier behind a driver of ours: `program FILE AT_ONCE`, as the files in `drivers/` say."""

    title: str
    version: str
    tool: str
    driver: str  # in drivers/
    files: Mapping[str, str]  # beside the driver
    command: Sequence[str]
    product: str

    def build(self) -> Path:
        """The program. Raises NotBuiltError."""
        driver = HERE / "drivers" / self.driver
        files = {f"main{driver.suffix}": driver.read_text(), **self.files}
        return _built(driver.stem, self.tool, files, self.command, self.product)


_AFTERSHIP = "1.4.1"
_REACHER = "0.11.11"
PEERS = (
    CompiledPeer(
        title="AfterShip/email-verifier",
        version=_AFTERSHIP,
        tool="go",
        driver="aftership.go",
        files={"go.mod": f"module peer\n\ngo 1.22\n\nrequire github.com/AfterShip/email-verifier v{_AFTERSHIP}\n"},
        command=("env", "CGO_ENABLED=0", "go", "build", "-mod=mod", "-p", "1", "-o", "peer", "."),
        product="peer",
    ),
    CompiledPeer(
        title="Reacher check-if-email-exists",
        version=_REACHER,
        tool="cargo",
        driver="reacher.rs",
        files={
            "Cargo.toml": f"""
[package]
name = "peer"
version = "0.0.0"
edition = "2021"
[[bin]]
name = "peer"
path = "main.rs"
[dependencies]
check-if-email-exists = "={_REACHER}"
serde_json = "1"
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}
[profile.release]
opt-level = 2
debug = false
codegen-units = 4
"""
        },
        command=("cargo", "build", "--release", "-q", "-j1", "--target-dir", "target"),
        product="target/release/peer",
    ),
)


def build_c(name: str) -> Path:
    """The program of `name`.c, which is written for Linux (epoll). Raises NotBuiltError."""
    if sys.platform != "linux":
        raise NotBuiltError("needs Linux")
    source = f"{name}.c"
    return _built(name, "cc", {source: (HERE / source).read_text()}, ("cc", "-O2", "-o", name, source, "-lm"), name)


def _built(name: str, tool: str, files: Mapping[str, str], command: Sequence[str], product: str) -> Path:
    if not shutil.which(tool):
        raise NotBuiltError(f"no {tool} here")
    digest = hashlib.sha256("\0".join([*files, *files.values(), *command]).encode()).hexdigest()
    program = CACHE / f"{name}-{digest[:12]}"
    if program.exists():
        return program
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        for path, text in files.items():
            (Path(folder) / path).write_text(text)
        _run(["nice", "-n", "19", *command], folder)
        for older in CACHE.glob(f"{name}-*"):
            older.unlink()
        (Path(folder) / product).replace(program)
    return program


def _run(command: Sequence[str], folder: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NotBuiltError("could not be built in time") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise NotBuiltError(f"could not be built: {said[-1].strip()[:120]}")

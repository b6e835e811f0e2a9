"""Other people's verifiers and ours, asking the same lab in the same run.

`python -m tests.bench peers [--few N] [--many N] [--rtt MS] [--rounds N]`, as root on Linux. The peers resolve through
/etc/resolv.conf and connect to port 25, so everything runs in a network and mount namespace of its own where the lab is
the only name server and owns port 25; nothing of the machine is touched and nothing leaves it. They are fetched by name
into a temporary folder from the package registries that pip and npm are set up for, those in Go and Rust are built into
`.tools/bench` (the first time that takes minutes), and none is ever part of the project; one that cannot be had is a line
in the table. Each asks as its documentation shows, 50 addresses at once, in turn with the others; rates are medians of
the rounds. The last column is how busy the lab was, which has one processor: near 100% it is the lab that was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from services.maillab.big import big_addresses, big_world
from shared.process import GC_THRESHOLDS
from shared.verdict import Status
from tests.bench.compiled import PEERS, NotBuiltError
from tests.bench.measure import LabInfo, cpu_of, lab_of, table
from tests.bench.probe_engine import LabProcess, engine, probe_of, whole_probe

HOSTS = 200
APART = 4_000  # domains, each with a mail host of its own, for the list of one address a domain
AT_ONCE = 50
INSTALL_SECONDS = 180
PEER_SECONDS = 300

Ask = Callable[[], Awaitable[dict[str, Any]]]

_PYTHON = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from validate_email import validate_email
emails = json.load(open(sys.argv[1]))
def ask(email):
    return validate_email(email, check_blacklist=False, smtp_helo_host="probe.test", smtp_from_address="probe@probe.test")
started = time.perf_counter()
with ThreadPoolExecutor(%d) as pool:
    valid = sum(found is True for found in pool.map(ask, emails))
print(json.dumps({"seconds": time.perf_counter() - started, "valid": valid}))
"""
_NODE = """
const emails = JSON.parse(require("fs").readFileSync(process.argv[2]));
%s
async function main() {
  const started = performance.now();
  let next = 0, valid = 0;
  const work = async () => {
    while (next < emails.length) { const found = await ask(emails[next++]); if (found) valid += 1; }
  };
  await Promise.all(Array.from({ length: %d }, work));
  console.log(JSON.stringify({ seconds: (performance.now() - started) / 1000, valid }));
  process.exit(0);
}
main();
"""
_NODE_WAYS = {
    "deep-email-validator": """
const { validate } = require("deep-email-validator");
const ask = async (email) => (await validate({ email, sender: "probe@probe.test", validateTypo: false,
  validateDisposable: false })).valid;""",
    "@devmehq/email-validator-js": """
const { verifyEmail } = require("@devmehq/email-validator-js");
const ask = async (emailAddress) => (await verifyEmail({ emailAddress, verifyMx: true, verifySmtp: true,
  timeout: 10000 })).validSmtp;""",
    "email-verify": """
const verifier = require("email-verify");
const ask = (email) => new Promise((done) => verifier.verify(email, { sender: "probe@probe.test" },
  (error, info) => done(!error && info.success)));""",
}


def _install(folder: Path) -> dict[str, str]:
    """Fetch the peers; those that could not be had, and why."""
    missing: dict[str, str] = {}
    pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder / "py"), "py3-validate-email"]
    commands = {"py3-validate-email": pip}
    if npm := shutil.which("npm"):
        for name in _NODE_WAYS:
            commands[name] = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), name]
    else:
        missing = dict.fromkeys(_NODE_WAYS, "no npm here")
    for name, command in commands.items():
        try:
            done = subprocess.run(command, capture_output=True, timeout=INSTALL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            missing[name] = "not fetched in time"
            continue
        if done.returncode:
            missing[name] = "could not be fetched"
    return missing | _build(folder)


def _build(folder: Path) -> dict[str, str]:
    """Put the compiled peers into `folder`; those that could not be had, and why."""
    missing: dict[str, str] = {}
    for peer in PEERS:
        try:
            (folder / peer.driver).symlink_to(peer.build())
        except NotBuiltError as error:
            missing[peer.title] = str(error)
    return missing


def _versions(folder: Path) -> dict[str, str]:
    found = {
        name: json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]
        for name in _NODE_WAYS
        if (folder / "node_modules" / name / "package.json").exists()
    }
    for info in (folder / "py").glob("py3_validate_email-*.dist-info"):
        found["py3-validate-email"] = info.name.split("-")[1].removesuffix(".dist")
    return found | {peer.title: peer.version for peer in PEERS if (folder / peer.driver).exists()}


def _command(name: str, folder: Path, emails: Path) -> list[str]:
    if name in _NODE_WAYS:
        script = folder / f"{name.replace('/', '_')}.js"
        script.write_text(_NODE % (_NODE_WAYS[name], AT_ONCE))
        return [str(shutil.which("node")), str(script), str(emails)]
    for peer in PEERS:
        if name == peer.title:
            return [str(folder / peer.driver), str(emails), str(AT_ONCE)]
    script = folder / "peer.py"
    script.write_text(_PYTHON % AT_ONCE)
    return [sys.executable, str(script), str(emails)]


async def _peer(name: str, folder: Path, emails: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "py")}
    before = os.times()
    process = await asyncio.create_subprocess_exec(
        *_command(name, folder, emails), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=environment, cwd=folder,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PEER_SECONDS):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    after = os.times()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return found | {"cpu": used}


async def _ours(way: Any, lab: LabProcess, emails: list[str]) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    valid = await way(lab, emails, HOSTS)
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "valid": valid}


async def _one_each(lab: LabProcess, emails: list[str], hosts: int) -> int:
    """One address at each domain, so a connection for each address."""
    async with probe_of(lab) as probe:
        batches = [emails[start : start + hosts] for start in range(0, len(emails), hosts)]
        answers = await asyncio.gather(
            *(probe.check_batch(batch, look=0, last_look=True, trace=False, deadline=600) for batch in batches)
        )
    return sum(result is not None and result.status is Status.VALID for results, _ in answers for result in results)


def _furnish(folder: Path) -> None:
    """The namespace gets its loopback device, and the lab as its name server."""
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)


async def _inside(folder: Path, few: int, many: int, rtt: float, rounds: int) -> list[dict[str, Any]]:
    """In the namespace: the lab on ports 25 and 53, then everybody in turn, `rounds` times."""
    gc.set_threshold(*GC_THRESHOLDS)
    lists = {count: list(big_addresses(count, domains=HOSTS)) for count in {few, many}}
    apart = list(big_addresses(APART, domains=APART))
    path = folder / "emails.json"
    path.write_text(json.dumps(lists[few]))
    async with lab_of(big_world, rtt=rtt, port=25, domains=APART, hosts=APART) as lab:
        known = LabProcess(lab.settings(global_max_concurrency=10_000), lab.addresses, None)  # type: ignore[arg-type]
        peers: list[tuple[str, list[str], Ask]] = [
            (f"{name} {version}", lists[few], partial(_peer, name, folder, path))
            for name, version in _versions(folder).items()
        ]
        ours: list[tuple[str, list[str], Ask]] = [
            (name, emails, partial(_ours, way, known, emails))
            for name, way, emails in (
                ("ours, one address a domain", _one_each, apart),
                ("ours, engine", engine, lists[many]),
                ("ours, probe", whole_probe, lists[many]),
            )
        ]
        rows: list[dict[str, Any]] = [
            {
                "name": name,
                "count": len(emails),
                "right": sum(email.startswith("user") for email in emails),
                "runs": [],
            }
            for name, emails, _ in peers + ours
        ]
        for _ in range(rounds):
            for row, (name, _, ask) in zip(rows, peers + ours, strict=True):
                row["runs"].append(run := await _seen(lab, ask))
                if name.startswith("ours") and (run.get("complaints") != 0 or run["valid"] != row["right"]):
                    raise RuntimeError(f"{name}: {run}")
    return rows


async def _seen(lab: LabInfo, ask: Ask) -> dict[str, Any]:
    """One run, and what the lab saw of it."""
    before, busy = lab.seen(), cpu_of(lab.pid)
    try:
        found = await ask()
    except (TimeoutError, ValueError, IndexError) as error:
        return {"failed": type(error).__name__}
    after, used = lab.seen(), cpu_of(lab.pid) - busy
    return (
        found
        | {"lab": used / found["seconds"]}
        | {what: after[what] - before[what] for what in ("connections", "complaints")}
    )


def _shown(rows: list[dict[str, Any]], missing: dict[str, str], rtt: float) -> str:
    failed = {row["name"]: run["failed"] for row in rows for run in row["runs"] if "failed" in run}
    ran = [row for row in rows if row["name"] not in failed]
    rates = {row["name"]: [row["count"] / run["seconds"] for run in row["runs"]] for row in ran}
    best = max((median(told) for name, told in rates.items() if not name.startswith("ours")), default=float("nan"))
    cells: list[list[object]] = []
    for row in ran:
        runs, count, told = row["runs"], row["count"], rates[row["name"]]
        cells.append(
            [
                row["name"], median(told), f"{min(told):,.0f} to {max(told):,.0f}", median(told) / best,
                median(run["cpu"] for run in runs) / count * 1e6, runs[-1]["connections"] / count,
                f"{min(run['valid'] for run in runs):,} of {row['right']:,}", f"{median(run['lab'] for run in runs):.0%}",
            ]
        )  # fmt: skip
    columns = ("", "addr/s", "from, to", "x best peer", "us/addr", "conn/addr", "found valid", "lab busy")
    blank = [""] * (len(columns) - 3)
    cells += [[name, "failed", *blank, why] for name, why in failed.items()]
    cells += [[name, "not here", *blank, why] for name, why in missing.items()]
    return table(f"{HOSTS} MX, {rtt * 1000:.0f} ms, 20% unknown mailboxes; peers {AT_ONCE} at once", columns, cells)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench peers")
    parser.add_argument("--few", type=int, default=2_000, help="addresses for each peer")
    parser.add_argument("--many", type=int, default=60_000, help="addresses for us")
    parser.add_argument("--rtt", type=float, nargs="+", default=[0], help="milliseconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args(arguments or [])
    if told.inside:
        _furnish(told.inside)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rows = runner.run(_inside(told.inside, told.few, told.many, told.rtt[0] / 1000, told.rounds))
        print(json.dumps(rows))
        return
    if not shutil.which("unshare") or os.geteuid():
        print("peers: needs root on Linux, for a network of its own\n")
        return
    with tempfile.TemporaryDirectory() as name:
        missing = _install(Path(name))
        for rtt in told.rtt:
            command = ["unshare", "-n", "-m", sys.executable, "-m", "tests.bench", "peers", "--inside", name]
            command += ["--few", str(told.few), "--many", str(told.many), "--rtt", str(rtt)]
            command += ["--rounds", str(told.rounds)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            print(_shown(json.loads(done.stdout.splitlines()[-1]), missing, rtt / 1000))

"""Other people's verifiers and ours, asking the same lab in the same run.

`python -m tests.bench peers [--few N] [--many N] [--rtt MS]`, as root on Linux. The peers resolve through
/etc/resolv.conf and connect to port 25, so everything runs in a network and mount namespace of its own where the lab is
the only name server and owns port 25; nothing of the machine is touched and nothing leaves it. They are fetched by name
into a temporary folder from the package registries that pip and npm are set up for, and are never part of the project;
one that cannot be had is a line in the table. Each asks as its documentation shows, 50 addresses at once.
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
from pathlib import Path
from typing import Any

import uvloop

from services.maillab.big import big_addresses, big_world
from shared.process import GC_THRESHOLDS
from tests.bench.measure import LabInfo, lab_of, table
from tests.bench.probe_engine import LabProcess, engine, probe_of, whole_probe

HOSTS = 200
AT_ONCE = 50
INSTALL_SECONDS = 180
PEER_SECONDS = 300

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
    return missing


def _versions(folder: Path) -> dict[str, str]:
    found = {
        name: json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]
        for name in _NODE_WAYS
        if (folder / "node_modules" / name / "package.json").exists()
    }
    for info in (folder / "py").glob("py3_validate_email-*.dist-info"):
        found["py3-validate-email"] = info.name.split("-")[1].removesuffix(".dist")
    return found


def _command(name: str, folder: Path, emails: Path) -> list[str]:
    if name in _NODE_WAYS:
        script = folder / f"{name.replace('/', '_')}.js"
        script.write_text(_NODE % (_NODE_WAYS[name], AT_ONCE))
        return [str(shutil.which("node")), str(script), str(emails)]
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
    """One address at each domain, so a connection for each address; forgotten between the rounds."""
    valid = 0
    for start in range(0, len(emails), hosts):
        async with probe_of(lab) as probe:
            results, _ = await probe.check_batch(
                emails[start : start + hosts], look=0, last_look=True, trace=False, deadline=600
            )
            valid += sum(result is not None and result.is_valid for result in results)
    return valid


def _furnish(folder: Path) -> None:
    """The namespace gets its loopback device, and the lab as its name server."""
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)


async def _inside(folder: Path, few: int, many: int, rtt: float) -> list[dict[str, Any]]:
    """In the namespace: the lab on ports 25 and 53, then everybody."""
    gc.set_threshold(*GC_THRESHOLDS)
    lists = {count: list(big_addresses(count, domains=HOSTS)) for count in {few, many}}
    path = folder / "emails.json"
    path.write_text(json.dumps(lists[few]))
    versions = _versions(folder)
    rows: list[dict[str, Any]] = []
    async with lab_of(big_world, rtt=rtt, port=25, domains=HOSTS, hosts=HOSTS) as lab:
        for name, version in versions.items():
            row = {"name": f"{name} {version}", "count": few}
            rows += [row | await _seen(lab, _peer(name, folder, path))]
        complaints = lab.seen()["complaints"]
        known = LabProcess(lab.settings(global_max_concurrency=10_000), lab.addresses, None)  # type: ignore[arg-type]
        for name, way, count in (
            ("ours, one address a domain", _one_each, few),
            ("ours, engine", engine, many),
            ("ours, probe", whole_probe, many),
        ):
            rows.append({"name": name, "count": count, **await _seen(lab, _ours(way, known, lists[count]))})
        if lab.seen()["complaints"] != complaints:
            raise RuntimeError("bad manners of ours")
    for row in rows:
        row["right"] = sum(email.startswith("user") for email in lists[row["count"]])
    return rows


async def _seen(lab: LabInfo, work: Any) -> dict[str, Any]:
    before = lab.seen()["connections"]
    try:
        found: dict[str, Any] = await work
    except (TimeoutError, ValueError, IndexError) as error:
        return {"failed": type(error).__name__}
    return found | {"connections": lab.seen()["connections"] - before}


def _shown(rows: list[dict[str, Any]], missing: dict[str, str], rtt: float) -> str:
    ran = [row for row in rows if "failed" not in row]
    rates = {row["name"]: row["count"] / row["seconds"] for row in ran}
    best = max((rate for name, rate in rates.items() if not name.startswith("ours")), default=float("nan"))
    cells: list[list[object]] = [
        [
            row["name"], rates[row["name"]], rates[row["name"]] / best, row["cpu"] / row["count"] * 1e6,
            row["connections"] / row["count"], f"{row['valid']:,} of {row['right']:,}",
        ]
        for row in ran
    ]  # fmt: skip
    cells += [[row["name"], "failed", "", "", "", row["failed"]] for row in rows if "failed" in row]
    cells += [[name, "not here", "", "", "", why] for name, why in missing.items()]
    columns = ("", "addr/s", "x best peer", "us/addr", "conn/addr", "found valid")
    return table(f"{HOSTS} MX, {rtt * 1000:.0f} ms, 20% unknown mailboxes; peers {AT_ONCE} at once", columns, cells)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench peers")
    parser.add_argument("--few", type=int, default=2_000, help="addresses for each peer")
    parser.add_argument("--many", type=int, default=60_000, help="addresses for us")
    parser.add_argument("--rtt", type=float, nargs="+", default=[0], help="milliseconds")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args(arguments or [])
    if told.inside:
        _furnish(told.inside)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(_inside(told.inside, told.few, told.many, told.rtt[0] / 1000))))
        return
    if not shutil.which("unshare") or os.geteuid():
        print("peers: needs root on Linux, for a network of its own\n")
        return
    with tempfile.TemporaryDirectory() as name:
        missing = _install(Path(name))
        for rtt in told.rtt:
            command = ["unshare", "-n", "-m", sys.executable, "-m", "tests.bench", "peers", "--inside", name]
            command += ["--few", str(told.few), "--many", str(told.many), "--rtt", str(rtt)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            print(_shown(json.loads(done.stdout.splitlines()[-1]), missing, rtt / 1000))

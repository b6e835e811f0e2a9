"""The mail internet on loopback: one DNS server and all the world's mail servers, in this event loop.

Every host listens on its own address of 127.0.0.0/8 (or on ::1), all on one port, as probers connect to one port.
Starting: first the DNS server, then the hosts, on a free port that all their addresses have (tried anew when another
program holds it on one of them). Stopping: listeners first, then open connections, then the side tasks, the log last.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from services.maillab.certificate import make_certificate
from services.maillab.characters import CHARACTERS
from services.maillab.characters.character import Character
from services.maillab.dialogue import Act, Answer, Dialogue
from services.maillab.dns_server import Answers, TcpSide, UdpSide
from services.maillab.manners import Neighbourhood
from services.maillab.replies import wire
from services.maillab.wirelog import Keep, WireLog
from services.maillab.world import Host, World, WorldError
from shared.errors import MailvetError

if sys.platform != "win32":
    import resource

LOOPBACK = "127.0.0.1"
TRIES = 20  # free ports tried until one is free on every host's address
BACKLOG = 1_024
FILES_PER_HOST = 4
SPARE_FILES = 500
STOP_SECONDS = 5.0  # for aborted connections to report their end, which takes one pass of the event loop
TEMPORARY_PORTS = (errno.EADDRINUSE, errno.EACCES)


class LabError(MailvetError):
    """The lab cannot run here; the message says why and what helps."""

    temporary = False


class Lab:
    """An async context manager. `rtt`: seconds of simulated round trip time; `clock`: what greylists go by."""

    def __init__(
        self,
        world: World,
        log_file: Path | None = None,
        rtt: float = 0.0,
        *,
        smtp_port: int = 0,
        dns_port: int = 0,
        keep: Keep = "all",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.world = world
        self.rtt = rtt
        self.clock = clock
        self.smtp_port = smtp_port
        self.dns_port = dns_port
        self.log = WireLog(file=log_file, keep=keep)
        self.neighbourhood = Neighbourhood(world, self.log, clock)
        self.greylist: dict[tuple[str, str, str], float] = {}
        self._asks: dict[str, int] = {}
        self._open: dict[str, set[Dialogue]] = {}
        self._listeners: dict[str, asyncio.Server] = {}
        self._black_holes: dict[str, list[socket.socket]] = {}
        self._characters: dict[str, Character] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dns_tcp: asyncio.Server | None = None
        self._dns_udp: asyncio.DatagramTransport | None = None
        self._dns_streams: set[asyncio.Transport] = set()
        self._tls: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        try:
            self.log.start(self.clock())
            for host in self.world.hosts.values():
                self._characters[host.name] = self._character(host)
            await self._start_dns()
            await self._start_hosts()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    # what callers ask

    @property
    def dns(self) -> str:
        return f"{LOOPBACK}:{self.dns_port}"

    def complaints(self) -> list[str]:
        """Manners broken so far, one sentence each, as `host, session n: what`."""
        return list(self.log.complaints)

    def env(self) -> dict[str, str]:
        """The settings that point a validator at this lab, by full environment name."""
        return {
            "MAILVET_DNS_NAMESERVERS": self.dns,
            "MAILVET_SMTP_PORT": str(self.smtp_port),
            "MAILVET_PROBE_ALLOW_NETWORKS": "127.0.0.0/8,::1/128",
            "MAILVET_PROBE_HELO": "probe.mailvet.test",
        }

    async def take_down(self, name: str) -> None:
        """From now on connections to the host are refused; open ones are cut."""
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.close()
        for dialogue in list(self._open.get(name, ())):
            dialogue.hang_up()

    async def bring_up(self, name: str) -> None:
        if name not in self._listeners:
            await self._listen(self.world.hosts[name], self.smtp_port)

    def change(self, name: str, character: str, **options: object) -> None:
        """The host's next connections meet another character."""
        host = self.world.hosts[name]
        host.character, host.options = character, options
        self._characters[name] = self._character(host)

    # what dialogues and characters ask

    def arrive(self, host: str, dialogue: Dialogue) -> list[Dialogue]:
        """Note a new connection; returns those that were open before it."""
        open_ones = self._open.setdefault(host, set())
        before = list(open_ones)
        open_ones.add(dialogue)
        return before

    def leave(self, host: str, dialogue: Dialogue) -> None:
        self._open[host].discard(dialogue)

    def scripted(self, address: str, replies: list[str]) -> Answer:
        """The next of an address's scripted replies."""
        ask = self._asks.get(address, 0)
        self._asks[address] = ask + 1
        text = replies[min(ask, len(replies) - 1)]
        match text:
            case "!close":
                return Act(then="close")
            case "!reset":
                return Act(then="abort")
            case "!silence":
                return Act(then="silence")
        return Act(wire(text), then="close") if text.startswith("421") else wire(text)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` beside the dialogues; it ends with the lab at the latest."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def tls_context(self) -> ssl.SSLContext:
        """The server's side of STARTTLS, with a self-signed certificate for every host of the world."""
        if self._tls is None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                file.write(make_certificate(list(self.world.hosts)))
                file.flush()
                self._tls.load_cert_chain(file.name)
        return self._tls

    # starting and stopping

    def _character(self, host: Host) -> Character:
        kind = CHARACTERS.get(host.character)
        if kind is None:
            raise WorldError(f"host {host.name}: no character is called {host.character}")
        try:
            options: dict[str, Any] = dict(host.options)
            return kind(host, self, **options)
        except TypeError as error:
            raise WorldError(f"host {host.name}: {host.character} does not take these options: {error}") from error

    async def _start_dns(self) -> None:
        loop = asyncio.get_running_loop()
        answers = Answers(self.world, self.log, self.clock)
        for attempt in range(TRIES):
            try:
                self._dns_tcp = await loop.create_server(
                    lambda: TcpSide(answers, self._dns_streams), LOOPBACK, self.dns_port
                )
                port = self._dns_tcp.sockets[0].getsockname()[1]
                transport, _ = await loop.create_datagram_endpoint(lambda: UdpSide(answers), (LOOPBACK, port))
            except OSError as error:
                if self._dns_tcp is not None:
                    self._dns_tcp.close()
                    self._dns_tcp = None
                if self.dns_port or attempt == TRIES - 1 or error.errno not in TEMPORARY_PORTS:
                    raise LabError(
                        f"the lab's DNS server cannot listen on {LOOPBACK}:{self.dns_port}: {error}"
                    ) from error
            else:
                self._dns_udp, self.dns_port = transport, port
                return

    async def _start_hosts(self) -> None:
        """All hosts on one port."""
        hosts = [host for host in self.world.hosts.values() if host.character != "down"]
        _make_room(len(hosts))
        for attempt in range(TRIES):
            port = self.smtp_port or _free_port()
            try:
                for host in hosts:
                    await self._listen(host, port)
            except OSError as error:
                await self._close_listeners()
                _explain(error, host, port)
                if self.smtp_port or attempt == TRIES - 1:
                    raise LabError(f"host {host.name} cannot listen on {host.ip} port {port}: {error}") from error
            else:
                self.smtp_port = port
                return

    async def _listen(self, host: Host, port: int) -> None:
        if host.character == "black_hole":
            self._black_holes[host.name] = _black_hole(host.ip, port)
            return
        self._listeners[host.name] = await asyncio.get_running_loop().create_server(
            lambda: Dialogue(self, host, self._characters[host.name]), host.ip, port, backlog=BACKLOG
        )

    async def _close_listeners(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        for sockets in self._black_holes.values():
            for one in sockets:
                one.close()
        self._listeners.clear()
        self._black_holes.clear()

    async def _stop(self) -> None:
        await self._close_listeners()
        if self._dns_tcp is not None:
            self._dns_tcp.close()
        if self._dns_udp is not None:
            self._dns_udp.close()
        for stream in self._dns_streams:
            stream.abort()
        for dialogues in self._open.values():
            for dialogue in list(dialogues):
                dialogue.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.wait_for(self._quiet(), STOP_SECONDS)
        self.log.finish()

    async def _quiet(self) -> None:
        """Every connection has reported its end."""
        while any(self._open.values()) or self._dns_streams:  # noqa: ASYNC110 - ends come by themselves, in one pass
            await asyncio.sleep(0)


def _make_room(hosts: int) -> None:
    """Raise this process's soft limit of open files, as far as it may: a listener a host, and callers' connections."""
    if sys.platform == "win32":
        return
    wanted = FILES_PER_HOST * hosts + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _black_hole(ip: str, port: int) -> list[socket.socket]:
    """A listener whose queue is full: the system drops further connection attempts, which then time out (Linux)."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ip, port))
    listener.listen(0)
    filler = socket.socket()
    filler.connect((ip, port))
    return [listener, filler]


def _explain(error: OSError, host: Host, port: int) -> None:
    """Raises LabError for what no other port would cure."""
    if error.errno == errno.EADDRNOTAVAIL:
        cure = f"add it, for example with `sudo ifconfig lo0 alias {host.ip}`" if os.name == "posix" else "add it"
        raise LabError(
            f"host {host.name} needs the address {host.ip}, which this system does not have (only Linux has all of "
            f"127.0.0.0/8 on its own): {cure}"
        ) from error
    if error.errno == errno.EMFILE:
        raise LabError("this process may not open as many files as the world has hosts: raise `ulimit -n`") from error
    if error.errno not in TEMPORARY_PORTS:
        raise LabError(f"host {host.name} cannot listen on {host.ip} port {port}: {error}") from error

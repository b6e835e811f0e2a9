"""Port 25 is checked where that makes sense, once an hour, and what was found is said in one sentence."""

import pytest

from shared.settings import Settings
from validator.preflight import HOSTS, INTERVAL, PORT, Preflight


class Network:
    """Stands for the way out: which hosts greet, and who was asked."""

    def __init__(self, *greeting):
        self.greeting = greeting
        self.asked = []

    async def __call__(self, host, port, timeout):
        self.asked.append((host, port))
        return host in self.greeting


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def settings(**values):
    return Settings(_env_file=None, **values)


async def test_one_host_that_greets_is_proof():
    network = Network(HOSTS[-1])
    preflight = Preflight(settings(), network, Clock())
    assert preflight.describe()["state"] == "not_checked"
    assert (await preflight.check()).state == "ok"
    assert network.asked == [(host, PORT) for host in HOSTS]
    assert len(HOSTS) <= 3


async def test_no_greeting_at_all_is_a_block_and_says_what_to_do():
    preflight = Preflight(settings(), Network(), Clock())
    await preflight.check()
    told = preflight.describe()
    assert told["state"] == "blocked"
    assert told["checkedAt"] == 1_000.0
    assert "Port 25 is blocked on this network" in told["sentence"]
    assert "MAILVET_PROBE_PROXY" in told["sentence"]


async def test_hosts_are_asked_once_an_hour_at_most():
    network, clock = Network(), Clock()
    preflight = Preflight(settings(), network, clock)
    for later, rounds in ((0, 1), (INTERVAL - 1, 1), (INTERVAL, 2)):
        clock.now = 1_000.0 + later
        await preflight.check()
        assert len(network.asked) == rounds * len(HOSTS)


@pytest.mark.parametrize(
    "values",
    [{"smtp_port": 2525}, {"probe_allow_networks": "127.0.0.0/8"}, {"probe_proxy": "socks5://127.0.0.1:1080"}],
)
async def test_a_lab_or_a_proxy_is_not_checked(values):
    network = Network(*HOSTS)
    preflight = Preflight(settings(**values), network, Clock())
    assert (await preflight.check()).state == "not_checked"
    await preflight.run()
    assert network.asked == []

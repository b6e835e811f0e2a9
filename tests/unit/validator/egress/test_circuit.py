"""pybreaker's state machine over the snapshot: what opens it, what closes it, what the fleet says."""

import pytest

from validator.egress.circuit import FAIL_MAX, FIRST_PAUSE, LONGEST_PAUSE, Circuit, Seen


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuit(clock):
    return Circuit("mx.example", clock)


def seen(state, *, version, failures=0, opens=0, wait=0.0, kind=""):
    return Seen("mx.example", state, failures, opens, kind, wait, str(version))


def test_it_opens_at_the_last_failure_in_a_row_and_not_before(circuit):
    for _ in range(FAIL_MAX - 1):
        circuit.failed("refused", 1, 1.0)
    circuit.succeeded()
    for _ in range(FAIL_MAX - 1):
        circuit.failed("refused", 1, 1.0)
    assert circuit.closed
    circuit.failed("silent", 1, 1.0)
    assert circuit.state == "open"
    assert circuit.kind == "silent"
    assert circuit.wait == FIRST_PAUSE


def test_a_weighty_failure_opens_it_at_once_and_longer(circuit):
    circuit.failed("blocked", FAIL_MAX, 10.0)
    assert circuit.state == "open"
    assert circuit.wait == 10 * FIRST_PAUSE


def test_half_open_a_success_closes_it_and_a_failure_doubles_the_pause(circuit, clock):
    circuit.failed("blocked", FAIL_MAX, 1.0)
    for opens in range(2, 12):
        clock.now += circuit.wait
        circuit.half_open()
        circuit.failed("refused", 1, 1.0)
        assert circuit.opens == opens
        assert circuit.wait == min(FIRST_PAUSE * 2 ** (opens - 1), LONGEST_PAUSE)
    circuit.half_open()
    circuit.succeeded()
    assert circuit.closed
    assert (circuit.opens, circuit.failures, circuit.wait) == (0, 0, 0.0)


def test_a_success_that_comes_after_it_opened_again_changes_nothing(circuit):
    circuit.failed("blocked", FAIL_MAX, 1.0)
    circuit.succeeded()
    assert circuit.state == "open"


def test_the_fleets_state_counts_only_when_it_is_newer(circuit):
    circuit.apply(seen("open", version=5, failures=5, opens=2, wait=40_000, kind="refused"))
    assert (circuit.state, circuit.wait, circuit.opens) == ("open", 40.0, 2)
    circuit.apply(seen("closed", version=4))
    assert circuit.state == "open"
    circuit.apply(seen("closed", version=6, failures=3))
    assert circuit.closed
    assert circuit.failures == 3
    for _ in range(FAIL_MAX - 3):
        circuit.failed("refused", 1, 1.0)
    assert circuit.state == "open"

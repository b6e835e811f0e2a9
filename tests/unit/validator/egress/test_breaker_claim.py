"""A claim of the half-open session that fails for a reason nobody thought of."""

from __future__ import annotations

import pytest

from validator.egress.breaker import Breakers, Trouble
from validator.egress.circuit import FAIL_MAX

HOST = "mx.example"


async def test_a_claim_that_ends_in_a_fault_of_ours_leaves_the_way_free_for_the_next():
    breakers = Breakers("redis://127.0.0.1:1/0")
    asked = []

    async def script(**call):
        asked.append(call["args"][0])
        if len(asked) == 1:
            raise ValueError("an answer nobody can read")
        raise ConnectionRefusedError

    breakers._script = script
    for _ in range(FAIL_MAX):
        breakers.report_failure(HOST, Trouble.REFUSED)
    breakers._circuits[HOST].hold_off(0)
    with pytest.raises(ValueError, match="nobody can read"):
        await breakers.admit(HOST)
    assert not breakers._circuits[HOST].probing
    assert breakers._reports[-1][0] == "abandon"  # it may have been granted
    lease = await breakers.admit(HOST)
    assert lease is not None
    assert lease.is_probe
    assert asked == ["claim", "claim"]

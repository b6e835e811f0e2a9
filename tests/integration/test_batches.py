"""A list through the whole machine: stored, dispatched, answered, recorded, counted, paid."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.batch_gateway import CREDITS, BatchGateway
from tests.servers import ValkeyServer


@pytest.fixture
async def gateway(tmp_path, valkey: ValkeyServer) -> AsyncIterator[BatchGateway]:
    async with BatchGateway(tmp_path, valkey.url) as running:
        yield running


async def test_a_list_goes_in_and_verdicts_come_out(gateway: BatchGateway) -> None:
    emails = [f"ok{n}@a.example.com" for n in range(30)] + ["no1@b.example.com", "all1@b.example.com"]
    emails += ["dunno@c.example.com", "OK1@A.example.com", "not an address"]
    file_id = await gateway.submit(emails)
    file = await gateway.until(file_id)
    assert (file["totalEmails"], file["uniqueEmails"], file["duplicates"], file["malformed"]) == (35, 33, 1, 1)
    assert (file["processed"], file["valid"], file["invalid"], file["risky"], file["unknown"]) == (34, 30, 2, 1, 1)
    assert (file["progress"], file["etaSeconds"]) == (1.0, 0)
    assert file["creditsCharged"] == 32
    assert await gateway.credits() == {"balance": CREDITS - 32, "reserved": 0, "available": CREDITS - 32}

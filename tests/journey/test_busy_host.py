"""A list that is too long for one turn at its mail host."""

from __future__ import annotations

from tests.journey import system
from tests.journey.conftest import tag
from tests.journey.internet import Internet, Lab, people
from tests.journey.observer import List, Observer

COUNT = 900  # the host answers some 250 in the time that a batch has, and there are two looks
HURRY = {"MAILVET_BATCH_DEADLINE": "3", "MAILVET_RETRY_DELAYS": "1", "MAILVET_BATCH_SIZE": "50"}


async def test_nobody_is_given_up_because_a_host_has_many_to_answer(tmp_path):
    internet = Internet()
    internet.site("busy.example", "no_pipelining")
    lab = Lab(tmp_path / "lab", internet, 0.02)
    await lab.start()
    try:
        server = system.serve(tmp_path, {**lab.settings, **HURRY})
        await server.start()
        async with Observer(server.url) as observer:
            busy = List(people(["busy.example"], COUNT, tag()))
            file_id = (await observer.upload(busy))["fileId"]
            await observer.ended(file_id)
            await observer.check(file_id, internet.verdicts(busy.unique))
        await server.program.close()
    finally:
        await lab.stop()

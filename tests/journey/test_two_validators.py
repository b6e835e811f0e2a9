"""One list, separate processes: a gateway, RabbitMQ, two validators, MongoDB, Redis."""

from __future__ import annotations

from tests.journey.conftest import Cluster, disturbed_list
from tests.journey.observer import Observer
from tests.journey.system import metric

REPORTED = 'mailvet_validator_batches_total{outcome="reported"}'


async def test_two_validators_share_one_list(cluster: Cluster, outside: Observer, began: float):
    before = [await metric(validator.url, REPORTED) for validator in cluster.validators]
    given = disturbed_list()
    accepted = await outside.upload(given)
    await cluster.finish_right(given, accepted["fileId"], began)
    after = [await metric(validator.url, REPORTED) for validator in cluster.validators]
    shares = [now - then for now, then in zip(after, before, strict=True)]
    assert min(shares) >= 2
    assert sum(shares) >= accepted["totalBatches"] - 1  # the malformed ones are no work

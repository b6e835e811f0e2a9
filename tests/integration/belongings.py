"""One of everything that an organisation can have, made through the API."""

from __future__ import annotations

from typing import Any

from tests.integration.batch_gateway import BatchGateway, eventually
from tests.servers.receiver import Receiver

CANARY = "ok-secret-of-the-first@nest.example.com"


async def belongings(gateway: BatchGateway, receiver: Receiver) -> dict[str, str]:
    """One of everything, of the first organisation."""
    client = gateway.client

    async def made(path: str, **options: Any) -> dict[str, Any]:
        answer = await client.post(path, **options)
        assert answer.status_code in (201, 202), answer.text
        body: dict[str, Any] = answer.json()
        return body

    endpoint = await made("/api/v1/webhooks", json={"url": receiver.url + "/first"})
    upload = await made("/api/v1/files", files={"file": ("first.csv", f"email\n{CANARY}\n")})
    batch = await made("/api/v1/validate-batch", json={"emails": [CANARY]})
    single = await made("/api/v1/validate", json={"email": CANARY, "timeout": 1})
    for file_id in (upload["fileId"], batch["fileId"], single["id"]):
        await gateway.until(file_id)
    key = await made("/api/v1/api-keys", json={"name": "first's", "scopes": ["files:read"]})
    member = await made("/api/v1/members", json={"userId": "user_of_the_first", "email": "ann@first.example"})
    suppression = await made("/api/v1/suppressions", json={"email": "somebody@first.example"})
    erasure = await made("/api/v1/erasures", json={"email": "another@first.example"})
    test = await made(f"/api/v1/webhooks/{endpoint['id']}/test")
    await made("/api/v1/billing/checkout", json={"pack": "credits_10k"})
    await eventually(lambda: len(receiver.came) >= 2)
    return {
        "file_id": upload["fileId"],
        "batch_id": batch["batchId"],
        "validation_id": single["id"],
        "key_id": key["id"],
        "user_id": member["userId"],
        "endpoint_id": endpoint["id"],
        "delivery_id": test["id"],
        "suppression_id": suppression["id"],
        "erasure_id": erasure["id"],
    }

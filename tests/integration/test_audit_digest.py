"""The digest that the API tells of an audit entry is the one its writer logged, whatever store lies between."""

from __future__ import annotations

import secrets

import pytest
from structlog.testing import capture_logs

from gateway.audit.record import append, digest_of
from gateway.collections import AUDIT
from shared.documents.mongodb import MongoDocuments
from tests.servers import MongoServer


@pytest.mark.mongodb
async def test_a_digest_survives_the_store(mongo: MongoServer) -> None:
    async with MongoDocuments(mongo.url_of("a" + secrets.token_hex(6)), (AUDIT,)) as documents:
        detail = {"z": 1, "a.b": 2.0, "scopes": ["*", "files:read"], "why": None, "test": True, "big": 2**40}
        with capture_logs() as lines:
            await append(documents, "org_one", "key:a", "api_key.created", "key_1", detail=detail)
        (told,) = (line["digest"] for line in lines if line["event"] == "audit_recorded")
        assert [digest_of(entry) async for entry in documents.scan(AUDIT, {"orgId": "org_one"})] == [told]

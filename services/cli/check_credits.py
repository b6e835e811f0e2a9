"""`mailvet credits check`: every balance recomputed from the ledger's entries."""

from __future__ import annotations

import time

from rich.console import Console

from gateway.collections import ALL
from gateway.credits.check import recompute_all
from gateway.credits.ledger import Ledger
from shared.documents.mongodb import MongoDocuments
from shared.documents.sqlite import SqliteDocuments
from shared.settings import Settings

EXIT_DIFFERENT = 1


async def check_credits(settings: Settings) -> int:
    """Reads MONGO_URL, or the standalone system's DATA_DIR. 0: every account agrees with its entries."""
    store = (
        MongoDocuments(settings.mongo_url, ALL)
        if settings.mongo_url
        else SqliteDocuments(settings.data_dir / "documents.sqlite", ALL)
    )
    console = Console()
    different = 0
    async with store as documents:
        async for check in recompute_all(documents, Ledger(documents, time.time)):
            different += bool(check.differences)
            found = "; ".join(check.differences) or f"agrees: balance {check.account.balance:,}"
            console.print(f"{check.org_id}: {found}", markup=False)
    return EXIT_DIFFERENT if different else 0

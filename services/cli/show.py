"""Tables and bars of the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

COLOURS = {"valid": "green", "invalid": "red", "risky": "yellow", "unknown": "bright_black"}
MEANINGS = {
    "valid": "accepted, where a random address is refused",
    "invalid": "will bounce",
    "risky": "accepts everything, full, disposable or a role",
    "unknown": "the server did not say; free of charge",
}


def progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=False,
    )


def verdict_table(stats: Mapping[str, Any]) -> Table:
    """Counts by status and by reason, largest first. `stats` is the body of GET …/stats."""
    table = Table(title="Verdicts", title_justify="left")
    table.add_column("status")
    table.add_column("addresses", justify="right")
    table.add_column("share", justify="right")
    table.add_column("what it means")
    total = max(int(stats.get("processed", 0)), 1)
    for status, meaning in MEANINGS.items():
        count = int(stats.get(status, 0))
        table.add_row(Text(status, COLOURS[status]), f"{count:,}", f"{count / total:.1%}", meaning)
    return table


def reason_table(stats: Mapping[str, Any]) -> Table:
    table = Table(title="Reasons", title_justify="left")
    table.add_column("reason")
    table.add_column("addresses", justify="right")
    for reason, count in sorted(stats.get("reasons", {}).items(), key=lambda item: -item[1]):
        table.add_row(reason, f"{count:,}")
    return table


def address_table(results: list[dict[str, Any]]) -> Table:
    table = Table(show_lines=False)
    for column in ("address", "status", "reason", "score", "mail host", "reply"):
        table.add_column(column, overflow="fold")
    for result in results:
        smtp = result["details"]["smtp"]
        reply = " ".join(str(part) for part in (smtp["code"], smtp["text"]) if part)
        table.add_row(
            Text(result["email"]),
            Text(result["status"], COLOURS[result["status"]]),
            result["reason"],
            str(result["score"]),
            smtp["host"] or ", ".join(result["details"]["dns"]["mx"][:2]),
            Text(reply),
        )
    return table


def print_trace(console: Console, result: Mapping[str, Any]) -> None:
    """Every step of the conversations: time, host, what was sent, what came back."""
    console.print(Text(f"{result['email']}: {result['status']} ({result['reason']})", "bold"), soft_wrap=True)
    for step in result["details"]["trace"]:
        where = f"{step.get('host') or '-'} [{step.get('address') or '-'}]"
        console.print(Text(f"  {step.get('at', '')} {where} {step.get('phase', '')}", "cyan"), soft_wrap=True)
        if step.get("sent"):
            console.print(Text(f"    C: {step['sent']}"), soft_wrap=True)
        if step.get("reply"):
            console.print(Text(f"    S: {step['reply']}"), soft_wrap=True)

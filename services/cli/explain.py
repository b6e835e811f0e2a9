"""`mailvet explain`: what a reply, an address or a mail host is taken for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, TextIO

import httpx
from rich.console import Console

from services.standalone.secrets import with_own_validator
from shared.errors import ValidatorUnavailable
from shared.settings import Settings
from validator import explain

STDIN = "-"
EXIT_NOT_UNDERSTOOD = 3


def explain_reply(what: str, stdin: BinaryIO, out: TextIO) -> int:
    return _explain(what, explain.explain_reply_line, explain.reply_lines, stdin, out)


def explain_address(what: str, stdin: BinaryIO, out: TextIO) -> int:
    return _explain(what, explain.explain_address, explain.address_lines, stdin, out)


def _explain(
    what: str,
    one: Callable[[str], dict[str, Any]],
    many: Callable[[Iterable[str | bytes]], Iterator[str]],
    stdin: BinaryIO,
    out: TextIO,
) -> int:
    if what == STDIN:
        out.writelines(line + "\n" for line in many(stdin))
        return 0
    try:
        answer = one(what)
    except ValueError as error:
        out.write(json.dumps({"error": str(error)}) + "\n")
        return EXIT_NOT_UNDERSTOOD
    out.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return 0


async def explain_mail_host(settings: Settings, host: str, *, as_json: bool) -> int:
    """Asks every validator of VALIDATOR_URLS. Raises ValidatorUnavailable where none answers."""
    settings = with_own_validator(settings)
    settings.need("internal_token")
    headers = {"Authorization": f"Bearer {settings.internal_token}"}
    answers: list[dict[str, Any]] = []
    async with httpx.AsyncClient(headers=headers, timeout=10, trust_env=False) as http:
        for url in settings.validator_urls:
            try:
                response = await http.get(f"{url}/internal/v1/mail-hosts/{host}")
            except httpx.TransportError:
                continue
            if response.is_success:
                answers.append({"validator": url, **response.json()})
    if not answers:
        raise ValidatorUnavailable("no validator answers there with this MAILVET_INTERNAL_TOKEN")
    console = Console()
    for answer in answers:
        if as_json:
            print(json.dumps(answer))
        else:
            console.print_json(data=answer)
    return 0

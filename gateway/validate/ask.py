"""One address, asked of a validator directly over its internal HTTP; those of the settings are tried in turn."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import httpx
import msgspec

from shared.errors import ValidatorUnavailable
from shared.logs import get_log
from shared.messages import PutOff
from shared.verdict import Result

log = get_log("gateway.validate.ask")

PATH: Final = "/internal/v1/validate"
CONNECT = 1.0  # seconds to reach a validator
MARGIN = 2.0  # seconds a validator may take beyond the caller's timeout to say so
_turn = count()


@dataclass(frozen=True, slots=True)
class Answer:
    """Either a result, as a JSON object, or why there is none yet."""

    result: dict[str, Any] | None = None
    put_off: PutOff | None = None


class _PutOffBody(msgspec.Struct, rename="camel"):
    put_off: PutOff


async def ask_validator(
    http: httpx.AsyncClient, urls: tuple[str, ...], email: str, timeout: float, org_id: str
) -> Answer:
    """Within `timeout` seconds. Raises ValidatorUnavailable when none of them gives an answer in time."""
    first = next(_turn)
    for at in range(len(urls)):
        url = urls[(first + at) % len(urls)]
        try:
            response = await http.post(
                url.rstrip("/") + PATH,
                json={"email": email, "timeout": timeout, "orgId": org_id},
                timeout=httpx.Timeout(timeout + MARGIN, connect=CONNECT),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError) as error:
            log.warning("validator_unreachable", error=type(error).__name__)
            continue
        except httpx.TransportError as error:
            raise ValidatorUnavailable(f"the validator gave no answer in time: {type(error).__name__}") from error
        answer = _read(response)
        if answer is not None:
            return answer
    raise ValidatorUnavailable("no validator answers")


def _read(response: httpx.Response) -> Answer | None:
    """None for an answer that is none; the next validator may be in better health."""
    try:
        if response.status_code == httpx.codes.OK:
            result = msgspec.json.decode(response.content, type=Result)
            return Answer(result=msgspec.to_builtins(result))
        if response.status_code == httpx.codes.ACCEPTED:
            return Answer(put_off=msgspec.json.decode(response.content, type=_PutOffBody).put_off)
    except msgspec.DecodeError as error:
        log.warning("validator_undecodable", error=type(error).__name__)
        return None
    log.warning("validator_refused", status=response.status_code)
    return None

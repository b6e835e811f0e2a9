"""One signed request to an address chosen by a stranger, with bounds on everything.

The connection goes to the judged address; name, Host header and certificate check stay those of the URL. No redirect is
followed, no proxy and no setting of the environment is used, no cookie kept, nothing decompressed, READ_AT_MOST bytes
of the answer read, and all of it within TIMEOUT.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from ipaddress import ip_address

import httpx

from gateway.webhooks.judge_url import UrlRefused, judge_url
from services.webhooks.decide import Tried
from services.webhooks.resolve import Lookup, NotContacted, address_of
from shared.address_guard import Network

TIMEOUT = 15.0  # seconds, from the look-up to the last byte read
READ_AT_MOST = 65_536  # bytes
SHOWN = 200  # characters of an answer that its owner is shown
USER_AGENT = "Mailvet-Webhooks/1"


class Poster:
    def __init__(
        self,
        lookup: Lookup,
        allow: Sequence[Network] = (),
        *,
        timeout: float = TIMEOUT,
        certificates: ssl.SSLContext | None = None,
    ) -> None:
        self._lookup = lookup
        self._allow = tuple(allow)
        self._timeout = timeout
        self._certificates = certificates or ssl.create_default_context()

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Tried:
        """Never raises for anything that the receiver, its name or its network does."""
        began = time.monotonic()

        def tried(status: int | None, why: str, retry_after: float | None = None) -> Tried:
            return Tried(status, round(1000 * (time.monotonic() - began)), why, retry_after)

        try:
            async with asyncio.timeout(self._timeout):
                response, text = await self._exchange(url, headers, body)
        except TimeoutError:
            return tried(None, f"no answer within {self._timeout:g} seconds")
        except (NotContacted, UrlRefused) as error:
            return tried(None, str(error))
        except (httpx.HTTPError, ssl.SSLError, OSError, ValueError) as error:
            return tried(None, f"the connection failed: {type(error).__name__}")
        if response.is_redirect:
            return tried(response.status_code, "redirects are not followed")
        return tried(response.status_code, text, _retry_after(response))

    async def _exchange(self, given: str, headers: dict[str, str], body: bytes) -> tuple[httpx.Response, str]:
        url = judge_url(given, self._allow)
        host = url.raw_host.decode("ascii")
        address = await address_of(host, self._lookup, self._allow)
        if url.scheme == "http" and not any(ip_address(address) in network for network in self._allow):
            raise NotContacted("http is for networks that are allowed by setting")
        sent = {
            **headers,
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
        }
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False, verify=self._certificates) as client,
            client.stream(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers=sent,
                timeout=self._timeout,
                extensions={"sni_hostname": host},
            ) as response,
        ):
            return response, await _beginning(response)


async def _beginning(response: httpx.Response) -> str:
    """What the answer says, in printable ASCII; no more than READ_AT_MOST of it is taken from the network."""
    read = b""
    async for piece in response.aiter_raw():
        read += piece
        if len(read) >= READ_AT_MOST:
            break
    text = read[: 4 * SHOWN].decode("ascii", "replace").replace("\ufffd", "?")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:SHOWN]


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; the form with a date is not used by anybody who limits rates."""
    value = response.headers.get("retry-after", "").strip()
    return float(value) if value.isascii() and value.isdecimal() and len(value) < 10 else None

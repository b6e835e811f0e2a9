"""What a request presents as its credential, before anyone judges it."""

from __future__ import annotations

from fastapi import Request

from gateway.problem import Problem

# Names that a key is put under by those who try the query string, where proxies and browsers would keep it.
_QUERY_NAMES = frozenset({"api_key", "apikey", "api-key", "x-api-key", "key", "token", "access_token", "authorization"})
_KEY_PREFIXES = ("mv_live_", "mv_test_")
_LONGEST = 8_192  # characters; session tokens stay below


def unauthorised() -> Problem:
    """One answer for none, unknown, malformed, expired and revoked, so that nothing is learned from the difference."""
    return Problem(
        401,
        "unauthorised",
        "This needs a valid API key or session token.",
        headers={"WWW-Authenticate": 'Bearer realm="mailvet"'},
    )


def read_credential(request: Request) -> str | None:
    """The one credential of the request; None where none is presented.

    Raises Problem: 401 for a header that is malformed or two that differ, 400 for a credential in the query string.
    """
    if request.scope["query_string"]:
        _refuse_in_query(request)
    presented = set(request.headers.getlist("x-api-key"))
    for value in request.headers.getlist("authorization"):
        scheme, _, credential = value.partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorised()
        presented.add(credential.strip())
    if not presented:
        return None
    credential = presented.pop()
    if presented or not credential or len(credential) > _LONGEST:
        raise unauthorised()
    return credential


def _refuse_in_query(request: Request) -> None:
    for name, value in request.query_params.multi_items():
        if name.lower() in _QUERY_NAMES or value.startswith(_KEY_PREFIXES):
            raise Problem(
                400, "credential_in_query", "Send the key in the Authorization or X-API-Key header, never in the URL."
            )

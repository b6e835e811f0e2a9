"""GET / and the files it is made of. No sign-in: they hold nothing of anybody; what they show they ask of the API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from gateway.dashboard.pages import INDEX, Page, pages
from gateway.problem import not_found

router = APIRouter(include_in_schema=False)

# Nothing from elsewhere, nothing inline, nowhere framed; and the browser itself refuses text that becomes markup.
POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",  # kept, but asked about by its ETag: an upgrade shows at once
    "Vary": "Accept-Encoding",
}
IfNoneMatch = Annotated[str, Header(alias="If-None-Match")]
AcceptEncoding = Annotated[str, Header(alias="Accept-Encoding")]


@router.get("/")
async def index(if_none_match: IfNoneMatch = "", accept_encoding: AcceptEncoding = "") -> Response:
    """The dashboard."""
    return _answer(pages()[INDEX], if_none_match, accept_encoding)


@router.get("/dashboard/{name}")
async def part(name: str, if_none_match: IfNoneMatch = "", accept_encoding: AcceptEncoding = "") -> Response:
    """A style sheet, a module or an icon of the dashboard."""
    page = pages().get(name)
    if page is None:
        raise not_found("page")
    return _answer(page, if_none_match, accept_encoding)


def _answer(page: Page, if_none_match: str, accept_encoding: str) -> Response:
    headers = {**_HEADERS, "ETag": page.etag}
    if page.etag in if_none_match:
        return Response(status_code=304, headers=headers)
    if "gzip" in accept_encoding:
        return Response(page.gzipped, 200, {**headers, "Content-Encoding": "gzip"}, page.media_type)
    return Response(page.content, 200, headers, page.media_type)

import gzip
import re
import subprocess
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from gateway.batches.state import FileStatus
from gateway.dashboard import routes
from gateway.dashboard.pages import INDEX, pages
from gateway.problem import install_problem_handlers
from shared.verdict import Flags, Reason, Status

STATIC = Path(str(files("gateway.dashboard") / "static"))
MODULES = sorted(path.name for path in STATIC.glob("*.js"))


@pytest.fixture
async def client():
    app = FastAPI()
    app.include_router(routes.router)
    install_problem_handlers(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


def source(name: str) -> str:
    return (STATIC / name).read_text()


async def test_the_page_comes_with_a_policy_that_lets_nothing_in_from_elsewhere(client):
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_everything_the_page_names_is_there_and_of_the_right_type(client):
    named = re.findall(r'(?:src|href)="(/dashboard/[^"]+)"', source(INDEX))
    assert len(named) > 10
    for path in named:
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].split(";")[0] in {"text/css", "text/javascript", "image/svg+xml"}


def test_the_package_names_no_file_that_it_would_leave_behind():
    """Hatch takes every file of the four packages; nothing here is ignored by git, which hatch obeys."""
    ignored = subprocess.run(
        ["git", "check-ignore", *map(str, STATIC.iterdir())], cwd=STATIC, capture_output=True, text=True, check=False
    )
    assert ignored.stdout == ""
    assert set(pages()) == {path.name for path in STATIC.iterdir()}


async def test_a_file_that_did_not_change_is_not_sent_again(client):
    first = await client.get("/dashboard/app.js")
    again = await client.get("/dashboard/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


async def test_files_are_compressed_only_for_those_who_can_read_it(client):
    packed = await client.get("/dashboard/style.css", headers={"Accept-Encoding": "gzip"})
    plain = await client.get("/dashboard/style.css", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert gzip.decompress(pages()["style.css"].gzipped) == plain.content


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2Froutes.py", "%2e%2e/pages.py", "routes.py", "static", "INDEX.HTML"]
)
async def test_only_the_packages_own_files_are_served(client, name):
    assert (await client.get(f"/dashboard/{name}")).status_code == 404


def test_every_module_is_preloaded_and_imports_only_modules_that_exist():
    page = source(INDEX)
    for name in MODULES:
        assert f"/dashboard/{name}" in page
        imported = re.findall(r'from "([^"]+)"', source(name))
        assert all(path.startswith("./") and path[2:] in MODULES for path in imported), name


def test_nothing_is_asked_of_another_machine():
    for name, page in pages().items():
        addresses = re.findall(rb"https?://[^\s\"'<>)]+", page.content)
        assert [one for one in addresses if not one.startswith(b"http://www.w3.org/")] == [], name


def test_no_text_can_become_markup():
    dangerous = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|javascript:"
    )
    assert {name: dangerous.findall(source(name)) for name in MODULES if dangerous.search(source(name))} == {}
    assert not re.search(r"\son\w+=|<script>|style=", source(INDEX))


def test_every_word_of_a_verdict_has_words_for_people():
    words = source("words.js")
    for word in (*Reason, *Status, *Flags.__struct_fields__):
        assert re.search(rf"^  {word}: ", words, re.MULTILINE), word


def test_every_state_of_a_list_has_words_for_people():
    inside = {FileStatus.RECEIVING, FileStatus.SETTLING}
    for state in set(FileStatus) - inside:
        assert re.search(rf"^  {state}: ", source("words.js"), re.MULTILINE), state


def test_the_whole_page_is_small():
    assert sum(len(page.gzipped) for page in pages().values()) < 40_000

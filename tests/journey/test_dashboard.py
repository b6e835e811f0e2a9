"""The dashboard in a real browser, before a real `mailvet serve`: what a person sees and does, by mouse and by keyboard."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import shutil
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.journey import system
from tests.journey.internet import Internet, Lab, people
from tests.journey.system import API_KEY, Listening

pytestmark = pytest.mark.browser
expect.set_options(timeout=20_000)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TAGS = count()
SLOW_SITES = [f"slow{n}.example" for n in range(4)]
EVIL_NAME = "<img src=x onerror=alert(1)>.csv"
EVIL_ROWS = [
    '"<script>alert(2)</script>",name',
    "<script>alert(3)</script>@quick.example,a",
    '"""<svg/onload=alert(4)>""@quick.example",b',
    "<img src=x onerror=alert(5)>,c",
    "user1@quick.example,d",
]


def tag() -> str:
    """For addresses that no other test here asks about."""
    return f".d{next(TAGS)}"


def chromium() -> str:
    """Its path. Skips on a laptop without one, fails under CI=true."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        why = "there is no Chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have every server: {why}")
        pytest.skip(f"SKIPPED FOR WANT OF A BROWSER: {why}")
    return found


@pytest.fixture(scope="module")
async def internet_lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    chromium()
    internet = Internet()
    internet.sites("slow{}.example", len(SLOW_SITES), "no_pipelining")
    internet.site("quick.example")
    internet.site("all.example", "catch_all")
    lab = Lab(tmp_path_factory.mktemp("lab"), internet, 0.03)
    await lab.start()
    yield lab
    await lab.stop()


async def running(folder: Path, lab: Lab, **settings: str) -> AsyncIterator[Listening]:
    server = system.serve(folder, {**lab.settings, "MAILVET_BATCH_SIZE": "10", **settings})
    await server.start()
    yield server
    await server.program.close()


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, internet_lab: Lab) -> AsyncIterator[Listening]:
    async for one in running(tmp_path_factory.mktemp("keys"), internet_lab, MAILVET_AUTH_MODE="keys"):
        yield one


@pytest.fixture(scope="module")
async def open_server(tmp_path_factory: pytest.TempPathFactory, internet_lab: Lab) -> AsyncIterator[Listening]:
    async for one in running(tmp_path_factory.mktemp("dev"), internet_lab, MAILVET_AUTH_MODE="dev"):
        yield one


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
        yield browser
        await browser.close()


class Tab:
    """A page whose complaints are kept: `expected` are parts of those that the test provokes."""

    def __init__(self, page: Page, home: str) -> None:
        self.page, self.home = page, home
        self.expected: list[str] = []
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        self.elsewhere: list[str] = []
        page.on(
            "console", lambda message: message.type in ("error", "warning") and self.complaints.append(message.text)
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith((self.home, "blob:" + self.home)):
            self.elsewhere.append(url)

    def check(self) -> None:
        unexpected = [text for text in self.complaints if not any(part in text for part in self.expected)]
        assert (unexpected, self.dialogs, self.elsewhere) == ([], [], [])


async def opened(context: BrowserContext, home: str) -> Tab:
    page = await context.new_page()
    page.set_default_timeout(20_000)
    tab = Tab(page, home)

    async def dismiss(dialog: Any) -> None:
        tab.dialogs.append(dialog.message)
        await dialog.dismiss()

    page.on("dialog", dismiss)
    await page.goto(home + "/")
    return tab


@pytest.fixture
async def tab(browser: Browser, server: Listening) -> AsyncIterator[Tab]:
    """Signed in."""
    context = await browser.new_context(viewport={"width": 1180, "height": 900})
    tab = await opened(context, server.url)
    tab.expected.append("401")  # the page asks whether it needs a key
    await tab.page.get_by_label("API key").fill(API_KEY)
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.get_by_role("heading", name="Check a list")).to_be_visible()
    yield tab
    await context.close()
    tab.check()


def the_list(size: int = 400) -> tuple[bytes, int]:
    """A CSV that takes a few seconds, and how many different addresses are in it."""
    mark = tag()
    emails = [
        *people(SLOW_SITES, size, mark),
        *people(["all.example"], 10, mark),
        *people(["nowhere.example"], 5, mark),
    ]
    rows = [["name", "email"], *([f"Person {n}", email] for n, email in enumerate(emails)), ["twice", emails[0]]]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(), len(set(emails))


async def send(page: Page, name: str, content: bytes) -> None:
    await page.set_input_files("#pick", {"name": name, "mimeType": "text/csv", "buffer": content})


async def drop(page: Page, name: str, content: str) -> None:
    """As if it were dragged from the desktop."""
    make = "([name, text]) => { const t = new DataTransfer(); t.items.add(new File([text], name)); return t; }"
    dragged = await page.evaluate_handle(make, [name, content])
    for event in ("dragover", "drop"):
        await page.dispatch_event(".drop", event, {"dataTransfer": dragged})


def progress(page: Page) -> Any:
    return page.get_by_role("progressbar", name="Checked")


async def percent(page: Page) -> int:
    return int(await progress(page).get_attribute("aria-valuenow") or 0)


async def until_percent(page: Page, at_least: int) -> None:
    async def there() -> bool:
        return await percent(page) >= at_least

    await system.until(there, 20, f"{at_least}% are checked")


async def test_a_wrong_key_is_refused_and_a_right_one_stays_in_the_tab(browser, server):
    context = await browser.new_context()
    tab = await opened(context, server.url)
    page = tab.page
    tab.expected.append("401")
    await page.get_by_label("API key").fill("this-key-was-never-given-to-anybody")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not known here")
    await page.get_by_label("API key").fill(API_KEY)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Check a list")).to_be_visible()
    assert await page.evaluate("localStorage.length") == 0
    await page.reload()
    await expect(page.get_by_role("heading", name="Check a list")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert await page.evaluate("sessionStorage.length") == 0
    await context.close()
    tab.check()


async def test_a_list_goes_in_is_watched_paused_and_resumed_across_a_reload_and_comes_back_as_a_file(tab):
    page, (content, unique) = tab.page, the_list()
    await send(page, "customers.csv", content)
    await expect(page.get_by_role("heading", name="customers.csv")).to_be_visible()
    facts = page.locator(".facts")
    await expect(facts).to_contain_text(f"To check{unique}")
    await expect(facts).to_contain_text("Duplicates1")
    await expect(facts).to_contain_text(f"Credits held{unique}")
    await expect(facts).to_contain_text("Address columnemail")
    await until_percent(page, 5)
    early = await percent(page)
    await expect(page.get_by_role("table", name="Latest results").locator("tbody tr").first).to_be_visible()
    await until_percent(page, early + 10)

    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator(".head .status")).to_have_text("Paused")
    await page.reload()
    await expect(page.locator(".head .status")).to_have_text("Paused")
    assert await percent(page) >= early
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator(".head .status")).to_have_text("Running")
    await page.reload()  # in the middle of the run: it goes on where it is
    await expect(page.locator(".head .status")).to_have_text("Finished")
    await expect(progress(page)).to_have_attribute("aria-valuenow", "100")
    await expect(facts).to_contain_text("Credits charged")

    await page.locator(".tile.risky").click()
    results = page.get_by_role("table", name="Results", exact=True)
    await expect(results.locator("tbody tr")).to_have_count(10)
    await expect(results.locator("tbody")).to_contain_text("accepts every address")
    assert set(await results.locator(".verdict").all_text_contents()) == {"Risky"}
    await page.get_by_label("Search the addresses").fill("user")
    async with page.expect_download() as downloading:
        await page.get_by_role("button", name="CSV").click()
    download = await downloading.value
    assert download.suggested_filename == "customers-mailvet.csv"
    rows = list(csv.DictReader((await asyncio.to_thread(Path(await download.path()).read_text)).splitlines()))
    assert len(rows) == 10
    assert {row["mailvet_status"] for row in rows} == {"risky"}


async def test_a_server_that_goes_and_comes_back_is_followed_to_the_end(tab, server):
    page, (content, unique) = tab.page, the_list(160)
    tab.expected += [
        "ERR_CONNECTION_REFUSED",
        "ERR_CONTENT_LENGTH_MISMATCH",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
    ]
    await send(page, "interrupted.csv", content)
    await until_percent(page, 10)
    await server.kill()
    await expect(page.locator(".connection")).to_have_text("Connection lost; trying again…")
    before = await percent(page)
    await server.start()
    await expect(page.locator(".head .status")).to_have_text("Finished")
    assert before < 100
    await expect(page.locator(".connection")).to_be_empty()
    await expect(page.locator(".progress-line")).to_have_text(f"All {unique} addresses checked.")


async def test_one_result_is_opened_read_and_closed_by_keyboard(tab):
    page = tab.page
    await page.get_by_text("Paste addresses").click()
    await page.get_by_label("One on a line").fill(f"user1{tag()}@quick.example, nonsense")
    await page.get_by_role("button", name="Check them").click()
    await expect(page.locator(".head .status")).to_have_text("Finished")
    address = page.get_by_role("table", name="Results", exact=True).get_by_role("button", name="user1")
    await address.focus()
    await page.keyboard.press("Enter")
    details = page.get_by_role("dialog")
    for said in ("Valid", "The server said", "250", "quick.example", "How the score comes about"):
        await expect(details).to_contain_text(said)
    await page.keyboard.press("Escape")
    await expect(details).to_have_count(0)
    await expect(address).to_be_focused()


async def test_what_cannot_be_taken_in_is_said_in_a_sentence_and_can_be_tried_with_other_options(tab):
    page = tab.page
    tab.expected.append("422")
    await send(page, "numbers.csv", b"a,b\n1,2\n3,4\n")
    await expect(page.locator(".job").get_by_role("alert")).to_contain_text("No column holds e-mail addresses")
    await expect(page.get_by_role("textbox", name="Column with the addresses")).to_be_focused()
    await page.keyboard.type("b")
    await page.get_by_label("Only count first").check()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator(".head .status")).to_have_text("Ready to start")
    await expect(page.locator(".facts")).to_contain_text("Credits held0")
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator(".head .status")).to_have_text("Finished")
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Delete for ever").click()
    await expect(page.get_by_role("heading", name="Your lists")).to_be_visible()
    await expect(page.get_by_role("link", name="numbers.csv")).to_have_count(0)


async def test_a_list_full_of_markup_is_only_ever_text(tab):
    page = tab.page
    await drop(page, EVIL_NAME, "\n".join(EVIL_ROWS))
    await expect(page.get_by_role("heading", level=1)).to_have_text(EVIL_NAME)
    await expect(page.locator(".head .status")).to_have_text("Finished")
    results = page.get_by_role("table", name="Results", exact=True)
    await expect(results).to_contain_text("<script>alert(3)</script>@quick.example")
    await expect(results).to_contain_text("<img src=x onerror=alert(5)>")
    await results.get_by_role("button", name="<img src=x").click()
    await expect(page.get_by_role("dialog")).to_contain_text("<img src=x onerror=alert(5)>")
    await page.keyboard.press("Escape")
    await page.get_by_role("link", name="Lists").first.click()
    await expect(page.get_by_role("link", name=EVIL_NAME)).to_be_visible()
    assert await page.locator("main script, main img, main svg[onload]").count() == 0


async def test_an_address_is_checked_and_charged_for(tab):
    page = tab.page
    await page.get_by_role("link", name="Check one").click()
    await page.get_by_label("E-mail address").fill(f"missing1{tag()}@quick.example")
    await page.keyboard.press("Enter")
    await expect(page.locator(".answer")).to_contain_text("There is no such mailbox")
    await page.get_by_role("navigation").get_by_role("link", name="Credits").click()
    await expect(page.locator(".ledger tbody tr").first).to_contain_text("−1")


async def test_a_key_is_shown_once_works_and_is_revoked(tab):
    page = tab.page
    await page.get_by_role("link", name="API keys").click()
    await page.get_by_label("Name").fill("a <b>form</b>")
    await page.get_by_role("button", name="Make a key").click()
    key = await page.get_by_label("The new key").input_value()
    assert key.startswith("mv_live_")
    await page.get_by_role("button", name="I have it").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    row = page.get_by_role("row", name="a <b>form</b>")
    await expect(row).to_contain_text("check and read")
    assert key not in await page.content()
    await row.get_by_role("button", name="Revoke").click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(row).to_contain_text("Revoked")


async def test_a_test_key_is_made_and_signed_in_with_shows_the_sandbox_marked(tab, browser, server):
    page = tab.page
    await page.get_by_role("link", name="API keys").click()
    await page.get_by_label("Name").fill("for the tests")
    await page.get_by_label("What it may do").select_option("test")
    await page.get_by_role("button", name="Make a key").click()
    key = await page.get_by_label("The new key").input_value()
    assert key.startswith("mv_test_")
    await page.get_by_role("button", name="I have it").click()
    await expect(page.get_by_role("row", name="for the tests")).to_contain_text("use the sandbox")
    async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}) as client:
        made = await client.post("/api/v1/validate-batch", json={"emails": ["catch-all@a.example", "ann@a.example"]})
        assert made.status_code == 202
    context = await browser.new_context()
    other = await opened(context, server.url)
    other.expected.append("401")
    await other.page.get_by_label("API key").fill(key)
    await other.page.keyboard.press("Enter")
    row = other.page.get_by_role("row", name="validate-batch")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("Test")
    await row.get_by_role("link").click()
    await expect(other.page.get_by_role("heading", name="validate-batch")).to_be_visible()
    await expect(other.page.get_by_title("Made with a test key")).to_be_visible()
    await context.close()
    other.check()


async def test_without_keys_nobody_signs_in_and_a_telephone_shows_everything(browser, open_server):
    context = await browser.new_context(viewport={"width": 360, "height": 700}, color_scheme="dark")
    tab = await opened(context, open_server.url)
    page = tab.page
    await page.get_by_text("Paste addresses").click()
    await page.get_by_label("One on a line").fill(f"user1{tag()}@quick.example\n{'long' * 15}{tag()}@quick.example")
    await page.get_by_role("button", name="Check them").click()
    await expect(page.locator(".head .status")).to_have_text("Finished")
    await expect(page.get_by_role("table", name="Results", exact=True).locator("tbody tr")).to_have_count(2)
    for place in ("", "#/", "#/check", "#/credits", "#/keys"):
        if place:
            await page.goto(f"{open_server.url}/{place}")
            await expect(page.locator("main :is(h1, h2)").first).to_be_attached()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
    await context.close()
    tab.check()


async def test_a_shut_port_is_said_on_every_page(browser, open_server):
    context = await browser.new_context()
    sentence = "Port 25 is blocked on this network."
    answer = {
        "status": "ready",
        "checks": {},
        "preflight": {"state": "blocked", "sentence": sentence, "checkedAt": 1.0},
    }

    async def blocked(route: Any) -> None:
        await route.fulfill(json=answer)

    await context.route("**/readyz", blocked)
    tab = await opened(context, open_server.url)
    await expect(tab.page.get_by_text(sentence)).to_be_visible()
    await context.close()
    tab.check()

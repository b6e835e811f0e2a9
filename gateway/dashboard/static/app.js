// The page: which view the address names, signing in, the purse, and what everybody has to know.

import { Problem, call, session, wasAborted } from "./api.js";
import { checkView } from "./check.js";
import { creditsView } from "./credits.js";
import { el, fill, say } from "./dom.js";
import { fileView } from "./file.js";
import { keysView } from "./keys.js";
import { listsView } from "./lists.js";
import { count } from "./words.js";

// A view takes the signal that ends it and what the address says, and returns its node, or a promise of it.
const VIEWS = [
  [/^#?\/?$/, "Lists", listsView],
  [/^#\/lists\/([^/]+)$/, "List", fileView],
  [/^#\/check$/, "Check one address", checkView],
  [/^#\/credits$/, "Credits", creditsView],
  [/^#\/keys$/, "API keys", keysView],
];
const READINESS_EVERY = 60_000;

const main = document.getElementById("main");
let leaving = new AbortController();

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [pattern, title, view] = VIEWS.find(([known]) => known.test(location.hash)) ?? [null, "Not found", nowhere];
  mark();
  document.title = `${title} · Mailvet`;
  try {
    const node = await view(signal, ...(pattern?.exec(location.hash).slice(1).map(decodeURIComponent) ?? []));
    if (!signal.aborted) fill(main, node);
  } catch (error) {
    if (!signal.aborted && !wasAborted(error)) fill(main, problemPage(error));
  }
  if (!signal.aborted) main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

const nowhere = () => el("p", { class: "box" }, "There is no such page. ", el("a", { href: "#/" }, "All lists"));

function problemPage(error) {
  const sentence = error instanceof Problem ? error.sentence : "Something went wrong on this page.";
  const again = el("button", { type: "button", onclick: show }, "Try again");
  if (!(error instanceof Problem)) console.error(error);
  return el("div", { class: "box problem", role: "alert" }, el("p", {}, sentence), again);
}

function mark() {
  for (const link of document.querySelectorAll("#nav a")) {
    const here = link.getAttribute("href") === (location.hash || "#/") || (link.hash === "#/" && location.hash.startsWith("#/lists"));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

// --- signing in ---
function signIn(refused) {
  leaving.abort();
  setChrome(false);
  const input = el("input", { id: "key", type: "password", name: "key", required: true, autocomplete: "off", spellcheck: "false" });
  const problem = el("p", { class: "field-problem", role: "alert" }, refused);
  const submit = async (event) => {
    event.preventDefault();
    session.keep(input.value.trim());
    fill(problem, "");
    if (!(await begin("This key is not known here, or was revoked."))) document.getElementById("key").focus();
  };
  document.title = "Sign in · Mailvet";
  fill(
    main,
    el(
      "form",
      { class: "box sign-in", onsubmit: submit },
      el("h1", {}, "Sign in"),
      el("label", { for: "key" }, "API key"),
      input,
      el("p", { class: "hint" }, "Kept in this tab only, until you close it. "),
      problem,
      el("button", { class: "primary" }, "Sign in"),
    ),
  );
  input.focus();
}

/** Whether the API answers to us; otherwise the page says what is the matter. */
async function begin(refused = "") {
  try {
    showPurse(await call("/api/v1/credits"));
  } catch (error) {
    if (error.status === 401) {
      signIn(refused);
      return false;
    }
    if (error.status !== 403) {
      fill(main, problemPage(error));
      main.querySelector("button").onclick = () => begin(refused);
      return false;
    }
  }
  setChrome(true);
  await show();
  return true;
}

function setChrome(signedIn) {
  document.getElementById("nav").hidden = !signedIn;
  document.getElementById("account").hidden = !signedIn;
  document.getElementById("sign-out").hidden = !session.key;
}

// --- what is on every page ---
function showPurse({ available }) {
  fill(document.getElementById("purse"), el("span", { class: "purse-number" }, count(available, "credit")), el("span", { class: "unseen" }, " available"));
}

async function refreshPurse() {
  try {
    showPurse(await call("/api/v1/credits"));
  } catch {
    // the next movement of credits asks again
  }
}

/** What keeps the whole installation from working, as one line each. */
function troubles({ status, checks = {}, preflight }) {
  const found = [];
  if (preflight?.state === "blocked") found.push(preflight.sentence);
  if (status === "unready") found.push("The gateway's own servers do not answer; nothing can be taken in now.");
  if (checks.validators === "unreachable") found.push("No validator answers: lists are taken in and wait.");
  if (checks.redis === "unreachable") found.push("Redis does not answer: progress is shown late.");
  return found;
}

let lastTroubles = "";

async function refreshBanners() {
  try {
    const response = await fetch("/readyz", { credentials: "omit" });
    const found = troubles(await response.json());
    if (found.join() !== lastTroubles) {
      lastTroubles = found.join();
      fill(document.getElementById("banners"), found.map((line) => el("p", { class: "banner" }, line)));
    }
  } catch {
    // that the server is away is said by what the user does next
  }
}

document.getElementById("skip").addEventListener("click", () => main.focus());
document.getElementById("sign-out").addEventListener("click", () => {
  session.forget();
  say("Signed out");
  begin();
});
window.addEventListener("hashchange", () => document.getElementById("nav").hidden || show());
window.addEventListener("credits-moved", refreshPurse);
window.addEventListener("signed-out", () => {
  if (!document.getElementById("nav").hidden) signIn("You were signed out: the key is no longer good.");
});
setInterval(() => document.hidden || refreshBanners(), READINESS_EVERY);
refreshBanners();
begin();

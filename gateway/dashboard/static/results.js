// Results as tables: all of them by pages, filtered and searched; and the latest while a list runs.

import { call, download, filePath, query, wasAborted } from "./api.js";
import { verdictBadge } from "./charts.js";
import { showDetails } from "./details.js";
import { actionButton, el, fill, icon, say } from "./dom.js";
import { VERDICTS, VERDICT_WORDS, count, reasonWords } from "./words.js";

const PAGE = 50;
const LATEST = 8;
const TYPING = 250; // milliseconds after the last key
const FORMATS = [["csv", "CSV"], ["xlsx", "Excel"], ["json", "JSON"], ["jsonl", "JSONL"]];
// A search reads a bounded part of the list for each page; so many short pages are asked for before the user is.
const PAGES_AT_ONCE = 5;

function resultRow(result, onopen) {
  return el(
    "tr",
    {},
    el(
      "td",
      { class: "address" },
      el(
        "div",
        { class: "address-and-why" },
        el("button", { type: "button", class: "link", onclick: () => onopen(result) }, result.email || "(empty)"),
        el("span", { class: "why" }, reasonWords(result.reason)),
      ),
    ),
    el("td", {}, verdictBadge(result.status)),
    el("td", { class: "amount score" }, result.score),
  );
}

function resultTable(body, label) {
  const names = [["Address and reason"], ["Verdict"], ["Score", "amount"]];
  return el(
    "table",
    { class: "results", "aria-label": label },
    el("thead", {}, el("tr", {}, names.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))),
    body,
  );
}

export class ResultsTable {
  #signal;
  #fileId;
  #status = "";
  #search = "";
  #cursor = null;
  #asked = 0;
  #reading = false;
  #body = el("tbody");
  #below = el("div", { class: "more" });
  #problem = el("p", { class: "field-problem", role: "alert" });
  #buttons = new Map();

  constructor(signal, fileId) {
    this.#signal = signal;
    this.#fileId = fileId;
    this.node = el(
      "section",
      { class: "box flush", "aria-labelledby": "results-title" },
      el("div", { class: "results-head" }, el("h2", { id: "results-title", tabindex: "-1" }, "Results"), this.#downloads()),
      el("div", { class: "filters" }, this.#filter(), this.#searchField()),
      this.#problem,
      resultTable(this.#body, "Results"),
      this.#below,
    );
  }

  /** Show one verdict only, and bring the table into view. */
  pick(verdict) {
    this.#choose(verdict);
    this.node.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    this.#buttons.get(verdict).focus({ preventScroll: true });
  }

  #choose(verdict) {
    this.#status = verdict;
    for (const [name, button] of this.#buttons) button.setAttribute("aria-pressed", String(name === verdict));
    this.load();
  }

  #filter() {
    for (const verdict of ["", ...VERDICTS]) {
      const words = verdict ? VERDICT_WORDS[verdict] : "All";
      this.#buttons.set(verdict, el("button", { type: "button", "aria-pressed": String(!verdict), onclick: () => this.#choose(verdict) }, words));
    }
    return el("div", { class: "segments", role: "group", "aria-label": "Show" }, [...this.#buttons.values()]);
  }

  #searchField() {
    const input = el("input", { type: "search", "aria-label": "Search the addresses", placeholder: "Search the addresses", autocomplete: "off", spellcheck: "false", maxlength: "320" });
    let timer = 0;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        this.#search = input.value.trim();
        this.load();
      }, TYPING);
    });
    return input;
  }

  #downloads() {
    const onproblem = (error) => wasAborted(error) || fill(this.#problem, error.sentence ?? "The download broke off.");
    const get = async (format) => {
      fill(this.#problem);
      const name = await download(query(filePath(this.#fileId, "/download"), { format, status: this.#status }));
      say(`Downloaded ${name}`);
    };
    return el(
      "div",
      { class: "downloads", role: "group", "aria-label": "Download what is shown" },
      icon("download"),
      FORMATS.map(([format, words]) => actionButton(words, () => get(format), { onproblem, kind: "small", "data-format": format })),
    );
  }

  async load() {
    this.#cursor = null;
    await this.#read(true);
  }

  /** While a list runs: fill the first page as results come, unless somebody is reading it. */
  async fillUp() {
    const idle = !this.#reading && !this.node.contains(document.activeElement);
    if (idle && this.#body.childElementCount < PAGE) await this.load();
  }

  /** Raises nothing: what goes wrong is said above the table. A later question makes an earlier answer void. */
  async #read(anew) {
    const asked = ++this.#asked;
    this.#reading = true;
    await this.#readPages(asked, anew);
    if (asked === this.#asked) this.#reading = false;
  }

  async #readPages(asked, anew) {
    const found = [];
    let pages = 0;
    try {
      do {
        const path = query(filePath(this.#fileId, "/emails"), { status: this.#status, q: this.#search, cursor: this.#cursor, limit: PAGE });
        const { items, nextCursor } = await call(path, { signal: this.#signal });
        if (asked !== this.#asked) return;
        found.push(...items);
        this.#cursor = nextCursor;
      } while (this.#cursor && found.length < PAGE && ++pages < PAGES_AT_ONCE);
    } catch (error) {
      if (!wasAborted(error) && asked === this.#asked) fill(this.#problem, error.sentence ?? "Something went wrong on this page.");
      return;
    }
    fill(this.#problem);
    const rows = found.map((result) => resultRow(result, showDetails));
    if (anew) fill(this.#body, rows);
    else this.#body.append(...rows);
    this.#renderBelow(found.length, anew);
  }

  #renderBelow(found, anew) {
    const shown = this.#body.childElementCount;
    const more = this.#cursor && actionButton(found ? "Show more" : "Search on", () => this.#read(false), { onproblem: () => {} });
    const words = shown ? count(shown, "result") + (this.#cursor ? " so far" : "") : this.#status || this.#search ? "No such result." : "No results yet.";
    fill(this.#below, el("span", { class: "hint", role: "status" }, words), more);
    if (!anew && found) this.#body.children[shown - found]?.querySelector("button").focus();
  }
}

export class LatestResults {
  #signal;
  #fileId;
  #waiting = [];
  #drawing = 0;
  #body = el("tbody");

  constructor(signal, fileId) {
    this.#signal = signal;
    this.#fileId = fileId;
    this.node = el("section", { class: "box flush latest", "aria-labelledby": "latest-title", hidden: true }, el("div", { class: "results-head" }, el("h2", { id: "latest-title" }, "Latest results")), resultTable(this.#body, "Latest results"));
  }

  get isEmpty() {
    return !this.#body.childElementCount && !this.#waiting.length;
  }

  /** Drawn once a frame, however fast they come. */
  add(items) {
    this.#waiting = [...this.#waiting, ...items].slice(-LATEST);
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#body.prepend(...this.#waiting.reverse().map((item) => resultRow(item, (one) => this.#open(one))));
      this.#waiting = [];
      while (this.#body.childElementCount > LATEST) this.#body.lastElementChild.remove();
    });
  }

  /** The news are short; the details are looked up. */
  async #open(item) {
    try {
      const { items } = await call(query(filePath(this.#fileId, "/emails"), { q: item.email.slice(0, 320), limit: 5 }), { signal: this.#signal });
      showDetails(items.find(({ email }) => email === item.email) ?? item);
    } catch (error) {
      if (!wasAborted(error)) showDetails(item);
    }
  }
}

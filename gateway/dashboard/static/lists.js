// The first view: add a list, and all lists, the newest first.

import { call, query, wasAborted } from "./api.js";
import { statusBadge, testBadge, verdictBar } from "./charts.js";
import { actionButton, el, fill, pause } from "./dom.js";
import { addList } from "./upload.js";
import { count, dateTime, number, share, since } from "./words.js";

const PAGE = 20;
const REFRESH = 3_000; // while something runs
const RUNNING = new Set(["queued", "processing"]);

export async function listsView(signal) {
  const table = new ListsTable(signal);
  await table.load();
  table.keepFresh();
  return [el("h1", { class: "unseen" }, "Lists"), addList(signal, () => table.load()), table.node];
}

class ListsTable {
  #signal;
  #cursor = null;
  #items = [];
  #body = el("tbody");
  #more = el("div", { class: "more" });
  #problem = el("p", { class: "field-problem", role: "alert" });
  #shown = el("div");

  constructor(signal) {
    this.#signal = signal;
    this.node = el("section", { "aria-labelledby": "lists-title" }, el("h2", { id: "lists-title" }, "Your lists"), this.#problem, this.#shown);
    this.table = el(
      "div",
      { class: "box flush" },
      el(
        "table",
        { class: "lists" },
        el("thead", {}, el("tr", {}, ["Name", "State", "Addresses", "Verdicts", "Added"].map((name) => el("th", { scope: "col" }, name)))),
        this.#body,
      ),
      this.#more,
    );
  }

  async load() {
    const { items, nextCursor } = await this.#page(null);
    const known = new Set(items.map(({ fileId }) => fileId));
    const older = this.#items.slice(PAGE).filter(({ fileId }) => !known.has(fileId));
    this.#items = [...items, ...older];
    if (!older.length) this.#cursor = nextCursor;
    this.#render();
  }

  #page(cursor) {
    return call(query("/api/v1/files", { limit: PAGE, cursor }), { signal: this.#signal });
  }

  async keepFresh() {
    while (!this.#signal.aborted) {
      await pause(REFRESH, this.#signal);
      if (this.#signal.aborted || document.hidden || !this.#items.some(({ status }) => RUNNING.has(status))) continue;
      try {
        await this.load();
        fill(this.#problem);
      } catch (error) {
        if (!wasAborted(error)) fill(this.#problem, error.sentence);
      }
    }
  }

  async #showMore() {
    const { items, nextCursor } = await this.#page(this.#cursor);
    this.#items.push(...items);
    this.#cursor = nextCursor;
    this.#render();
  }

  #render() {
    if (!this.#items.length) {
      fill(this.#shown, el("p", { class: "empty" }, "Nothing here yet. Add a list above; its verdicts appear while it runs."));
      return;
    }
    if (this.table.parentNode !== this.#shown) fill(this.#shown, this.table);
    const focused = document.activeElement?.getAttribute?.("href");
    fill(this.#body, this.#items.map(row));
    if (focused?.startsWith("#/lists/")) [...this.#body.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
    const onproblem = (error) => fill(this.#problem, error.sentence);
    fill(this.#more, this.#cursor && actionButton("Show older lists", () => this.#showMore(), { onproblem }));
  }
}

function row(file) {
  const total = file.uniqueEmails + file.malformed;
  const running = RUNNING.has(file.status) || file.status === "paused";
  return el(
    "tr",
    {},
    el("td", { class: "name" }, el("a", { href: `#/lists/${encodeURIComponent(file.fileId)}` }, file.filename || "Pasted addresses"), file.test && testBadge()),
    el("td", {}, statusBadge(file.status), running && el("span", { class: "after-badge" }, ` ${share(file.progress)}`)),
    el("td", { class: "amount", "data-label": "addresses" }, number(total)),
    el("td", { class: "mini" }, verdictBar(file, total), el("span", { class: "unseen" }, `${count(file.valid, "valid", "valid")}, ${number(file.risky)} risky, ${number(file.invalid)} invalid, ${number(file.unknown)} unknown`)),
    el("td", { class: "when" }, el("time", { datetime: file.createdAt, title: dateTime(file.createdAt) }, since(file.createdAt))),
  );
}

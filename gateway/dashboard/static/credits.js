// What is owned, what is set aside, and every movement.

import { call, query } from "./api.js";
import { actionButton, el, fill } from "./dom.js";
import { LEDGER_WORDS, dateTime, number, plain, signed } from "./words.js";

const PAGE = 50;

export async function creditsView(signal) {
  const page = (cursor) => call(query("/api/v1/credits/ledger", { limit: PAGE, cursor }), { signal });
  const [balance, first] = await Promise.all([call("/api/v1/credits", { signal }), page(null)]);
  const body = el("tbody");
  const below = el("div", { class: "more" });
  const problem = el("p", { class: "field-problem", role: "alert" });
  const add = ({ items, nextCursor }) => {
    body.append(...items.map(entryRow));
    const more = () => page(nextCursor).then(add);
    fill(below, nextCursor && actionButton("Show older movements", more, { onproblem: (error) => fill(problem, error.sentence) }));
  };
  add(first);
  return [
    el("h1", {}, "Credits"),
    el("dl", { class: "facts large" }, balanceFact("Available", balance.available), balanceFact("Held for running lists", balance.reserved), balanceFact("Balance", balance.balance)),
    el("p", { class: "hint" }, "A valid, invalid or risky verdict costs one credit. Unknown verdicts, duplicates and what is no address cost nothing."),
    el(
      "section",
      { class: "box flush", "aria-labelledby": "ledger-title" },
      el("h2", { id: "ledger-title", class: "flush-title" }, "Movements"),
      problem,
      first.items.length ? ledgerTable(body) : el("p", { class: "empty" }, "None yet."),
      below,
    ),
  ];
}

const balanceFact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, number(value)));

function ledgerTable(body) {
  const names = [["When"], ["What"], ["Balance", "amount"], ["Held", "amount"]];
  return el("table", { class: "ledger" }, el("thead", {}, el("tr", {}, names.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))), body);
}

function entryRow(entry) {
  const words = LEDGER_WORDS[entry.kind] ?? plain(entry.kind);
  const what = entry.fileId ? [words, " for ", el("a", { href: `#/lists/${encodeURIComponent(entry.fileId)}` }, "a list")] : [words, el("span", { class: "hint cause" }, ` ${entry.cause}`)];
  return el(
    "tr",
    {},
    el("td", { class: "when" }, el("time", { datetime: entry.at }, dateTime(entry.at))),
    el("td", {}, what),
    el("td", { class: "amount" }, entry.amount ? signed(entry.amount) : "–"),
    el("td", { class: "amount" }, entry.reserved ? signed(entry.reserved) : "–"),
  );
}

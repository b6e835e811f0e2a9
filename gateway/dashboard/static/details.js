// Everything that is known about one address.

import { verdictBadge } from "./charts.js";
import { el, openDialog } from "./dom.js";
import { FLAG_WORDS, SCORE_WORDS, count, dateTime, plain, reasonWords, signed } from "./words.js";

export const showDetails = (result) => openDialog(result.email || "(empty)", resultCard(result));

/** Also the answer to a single check. */
export function resultCard(result) {
  const { smtp = {}, dns = {}, flags = {}, syntax = {}, score_parts: parts = {}, trace = [], provider, checked_at: checkedAt } = result.details ?? {};
  const repeated = smtp.enhanced && smtp.text?.startsWith(smtp.enhanced);
  const reply = [smtp.code, repeated ? null : smtp.enhanced, smtp.text].filter(Boolean).join(" ");
  const set = Object.keys(flags).filter((flag) => flags[flag]);
  const facts = [
    ["Reason", reasonWords(result.reason)],
    ["Did you mean", result.suggestion],
    ["Written as", result.normalized !== result.email ? result.normalized : null],
    ["What is wrong", syntax.why && plain(syntax.why)],
    ["The server said", reply && el("q", { class: "reply" }, reply)],
    ["Mail host", smtp.host],
    ["Asked", smtp.attempts ? count(smtp.attempts, "time") : null],
    ["Mail servers", dns.mx?.length ? dns.mx.join(", ") + (dns.implicit ? " (no MX record)" : "") : null],
    ["Provider", provider],
    ["Marks", set.map((flag) => FLAG_WORDS[flag] ?? plain(flag)).join(", ")],
    ["Risk", result.risk_level],
    ["Row", result.row],
    ["Checked", dateTime(checkedAt)],
  ];
  return el(
    "div",
    { class: "card" },
    el("p", { class: "card-head" }, verdictBadge(result.status), el("span", { class: "card-score" }, `Score ${result.score} of 100`)),
    el("dl", { class: "pairs" }, facts.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    Object.keys(parts).length > 0 && scoreTable(parts, result.score),
    trace.length > 0 && el("details", {}, el("summary", {}, "Conversation"), el("ol", { class: "trace" }, trace.map(({ phase, sent, reply: said }) => el("li", {}, `${phase}: ${sent ?? ""} → ${said ?? ""}`)))),
  );
}

function scoreTable(parts, score) {
  const rows = Object.entries(parts).map(([name, points]) => el("tr", {}, el("th", { scope: "row" }, SCORE_WORDS[name] ?? plain(name)), el("td", { class: "amount" }, signed(points))));
  return el(
    "table",
    { class: "score-parts" },
    el("caption", {}, "How the score comes about"),
    el("tbody", {}, rows, el("tr", { class: "sum" }, el("th", { scope: "row" }, "Score"), el("td", { class: "amount" }, score))),
  );
}

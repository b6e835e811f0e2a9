// One list: its state live, what can be done with it, statistics and results.

import { call, filePath, wasAborted } from "./api.js";
import { fillBar, statusBadge, testBadge, verdictBar, verdictTiles } from "./charts.js";
import { actionButton, confirmed, el, fill, say } from "./dom.js";
import { LatestResults, ResultsTable } from "./results.js";
import { follow } from "./stream.js";
import { accepted } from "./upload.js";
import { count, dateTime, duration, number, reasonVerdict, reasonWords, share, since } from "./words.js";

const RUNNING = new Set(["queued", "processing", "paused"]);
const ENDED = new Set(["completed", "cancelled", "failed"]);
const DOMAINS_AT_FIRST = 8;
const SAY_EVERY = 0.25; // of the whole

export async function fileView(signal, fileId) {
  const [file, stats] = await Promise.all([call(filePath(fileId), { signal }), call(filePath(fileId, "/stats"), { signal })]);
  const view = new FileView(signal, file, stats);
  view.start();
  return view.node;
}

class FileView {
  #signal;
  #file;
  #saidAt = 0;
  #status = el("span");
  #actions = el("div", { class: "actions" });
  #bar = el("div", { class: "verdict-bar big", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": "Checked" });
  #line = el("p", { class: "progress-line" });
  #connection = el("span", { class: "connection", role: "status" });
  #problem = el("div");
  #reasons = el("div");
  #domains = el("div");
  #facts = el("dl", { class: "facts" });
  #statistics = el(
    "div",
    { class: "two" },
    el("section", { class: "box", "aria-labelledby": "reasons-title" }, el("h2", { id: "reasons-title" }, "Reasons"), this.#reasons),
    el("section", { class: "box", "aria-labelledby": "domains-title" }, el("h2", { id: "domains-title" }, "Largest domains"), this.#domains),
  );
  #allDomains = false;
  #stats;
  #tiles;
  #updateTiles;
  #results;
  #latest;

  constructor(signal, file, stats) {
    this.#signal = signal;
    this.#file = file;
    this.#stats = stats;
    this.#results = new ResultsTable(signal, file.fileId);
    this.#latest = new LatestResults(signal, file.fileId);
    [this.#tiles, this.#updateTiles] = verdictTiles((verdict) => this.#results.pick(verdict));
    document.title = `${file.filename || "Pasted addresses"} · Mailvet`;
    this.node = this.#build();
    this.#renderCounts();
    this.#renderAll();
  }

  start() {
    if (RUNNING.has(this.#file.status)) this.#follow();
    if (this.#file.status !== "ready") this.#results.load();
  }

  #build() {
    const file = this.#file;
    return [
      el("p", { class: "crumb" }, el("a", { href: "#/" }, "Lists")),
      el("div", { class: "head" }, el("h1", {}, file.filename || "Pasted addresses"), file.test && testBadge(), this.#status, this.#actions),
      this.#problem,
      this.#facts,
      el("section", { class: "box", "aria-label": "Progress" }, this.#bar, el("div", { class: "progress-row" }, this.#line, this.#connection), this.#tiles),
      this.#latest.node,
      this.#statistics,
      this.#results.node,
    ];
  }

  #counts() {
    const file = this.#file;
    const told = accepted.get(file.fileId);
    const facts = [
      ["Rows", number(file.totalEmails)],
      ["To check", number(file.uniqueEmails)],
      ["Duplicates", number(file.duplicates)],
      ["Malformed", number(file.malformed)],
      ENDED.has(file.status) ? ["Credits charged", number(file.creditsCharged)] : ["Credits held", number(file.creditsReserved)],
      told?.column && ["Address column", told.column],
      ["Added", since(file.createdAt), dateTime(file.createdAt)],
      file.expiresAt && ["Erased on", dateTime(file.expiresAt)],
    ];
    return facts.filter(Boolean).map(([name, value, title]) => el("div", {}, el("dt", {}, name), el("dd", { title }, value)));
  }

  #renderCounts() {
    this.#facts.replaceChildren(...this.#counts());
  }

  // --- live ---
  async #follow() {
    try {
      await follow(filePath(this.#file.fileId, "/events"), {
        signal: this.#signal,
        onevent: (name, data) => this.#take(name, data),
        onconnection: (there) => fill(this.#connection, there ? "" : "Connection lost; trying again…"),
      });
      if (!this.#signal.aborted) await this.#ended();
    } catch (error) {
      if (!this.#signal.aborted) this.#showProblem(error);
    }
  }

  #take(name, data) {
    if (name === "stats") {
      this.#stats = data;
      this.#renderStats();
      this.#results.fillUp();
    } else if (name === "emails") {
      this.#latest.add(data.items);
    } else {
      this.#file = { ...this.#file, ...data };
      this.#renderState();
      this.#sayProgress();
    }
  }

  #sayProgress() {
    const { progress } = this.#file;
    if (progress >= 1 || progress < this.#saidAt + SAY_EVERY) return;
    this.#saidAt = Math.floor(progress / SAY_EVERY) * SAY_EVERY;
    say(`${share(progress)} checked`);
  }

  async #ended() {
    window.dispatchEvent(new Event("credits-moved"));
    say(`The list is ${this.#file.status}.`);
    await this.#reload();
  }

  async #reload() {
    const { fileId } = this.#file;
    const options = { signal: this.#signal };
    [this.#file, this.#stats] = await Promise.all([call(filePath(fileId), options), call(filePath(fileId, "/stats"), options)]);
    this.#renderCounts();
    this.#renderAll();
    if (this.#file.status !== "ready") await this.#results.load();
  }

  // --- rendering ---
  #renderAll() {
    this.#renderState();
    this.#renderStats();
  }

  #renderState() {
    const file = this.#file;
    if (this.#status.dataset.is !== file.status) {
      this.#status.dataset.is = file.status;
      fill(this.#status, statusBadge(file.status));
      this.#renderActions();
    }
    const total = file.uniqueEmails + file.malformed;
    fillBar(this.#bar, file, total, Math.round(file.progress * total));
    this.#bar.setAttribute("aria-valuenow", Math.floor(file.progress * 100));
    const sentence = progressSentence(file, total);
    this.#bar.setAttribute("aria-valuetext", sentence);
    fill(this.#line, sentence);
    this.#updateTiles(file);
    for (const part of [this.#tiles, this.#statistics, this.#results.node]) part.hidden = file.status === "ready";
    this.#latest.node.hidden = !RUNNING.has(file.status) || this.#latest.isEmpty;
  }

  #renderStats() {
    const { reasons, domains, processed } = this.#stats;
    const rows = Object.entries(reasons).filter(([, value]) => value).sort((one, other) => other[1] - one[1]);
    fill(this.#reasons, rows.length ? el("ul", { class: "reasons" }, rows.map(([reason, value]) => reasonRow(reason, value, processed))) : nothingYet());
    const shown = this.#allDomains ? domains : domains.slice(0, DOMAINS_AT_FIRST);
    const largest = Math.max(1, ...domains.map(({ total }) => total));
    const more = domains.length > shown.length && el("button", { type: "button", class: "quiet", onclick: () => ((this.#allDomains = true), this.#renderStats()) }, `Show all ${domains.length}`);
    fill(this.#domains, shown.length ? [el("ul", { class: "domains" }, shown.map((domain) => domainRow(domain, largest))), more] : nothingYet());
  }

  // --- what can be done ---
  #renderActions() {
    const { status } = this.#file;
    const button = (label, action, kind = "") => actionButton(label, action, { kind, onproblem: (error) => this.#showProblem(error) });
    fill(
      this.#actions,
      status === "ready" && button("Start", () => this.#change("/start"), "primary"),
      (status === "queued" || status === "processing") && button("Pause", () => this.#change("/pause")),
      status === "paused" && button("Resume", () => this.#change("/resume"), "primary"),
      RUNNING.has(status) && button("Cancel", () => this.#cancel()),
      button("Delete", () => this.#delete(), "danger-quiet"),
    );
  }

  async #change(verb) {
    fill(this.#problem);
    const before = this.#file.status;
    const changed = await call(filePath(this.#file.fileId, verb), { method: "POST" });
    if (this.#signal.aborted) return;
    this.#file = { ...this.#file, ...changed };
    this.#renderCounts();
    this.#renderState();
    say(`The list is ${changed.status}.`);
    window.dispatchEvent(new Event("credits-moved"));
    if (before === "ready") this.start();
    else if (ENDED.has(changed.status)) await this.#reload();
  }

  async #cancel() {
    const text = "What is checked already is kept and charged; the credits for the rest come back to you.";
    if (await confirmed("Cancel this list?", text, "Cancel the list")) await this.#change("/cancel");
  }

  async #delete() {
    const text = "The upload and all its results are erased at once and cannot be had back. A running list is cancelled first.";
    if (!(await confirmed("Delete this list?", text, "Delete for ever"))) return;
    await call(filePath(this.#file.fileId), { method: "DELETE" });
    say("The list was deleted.");
    window.dispatchEvent(new Event("credits-moved"));
    location.hash = "#/";
  }

  #showProblem(error) {
    if (!wasAborted(error)) fill(this.#problem, el("p", { class: "box problem", role: "alert" }, error.sentence ?? "Something went wrong on this page."));
  }
}

const nothingYet = () => el("p", { class: "hint" }, "Nothing yet.");

function progressSentence(file, total) {
  const { status, progress, processed, etaSeconds } = file;
  if (status === "ready") return `Counted, not started. Checking it costs at most ${count(file.uniqueEmails, "credit")}.`;
  if (status === "completed") return `All ${count(total, "address", "addresses")} checked.`;
  if (status === "cancelled") return `Cancelled: ${number(processed)} of ${count(total, "address", "addresses")} checked.`;
  if (status === "failed") return file.failure ? `Failed: ${file.failure}` : "Failed.";
  const seen = Math.max(processed, Math.floor(progress * total));
  const said = [`${number(seen)} of ${number(total)} checked (${share(progress)})`];
  if (status === "paused") said.push("paused");
  else if (etaSeconds) said.push(`about ${duration(etaSeconds)} left`);
  return said.join(" · ");
}

function reasonRow(reason, value, processed) {
  const bar = el("span", { class: `fill ${reasonVerdict(reason)}` });
  bar.style.width = `${(100 * value) / Math.max(1, processed)}%`;
  return el(
    "li",
    {},
    el("span", { class: "reason-name" }, reasonWords(reason)),
    el("span", { class: "amount" }, number(value)),
    el("span", { class: "track", "aria-hidden": "true" }, bar),
  );
}

function domainRow(domain, largest) {
  const bar = verdictBar(domain, largest);
  const words = ["valid", "risky", "invalid", "unknown"].filter((verdict) => domain[verdict]).map((verdict) => `${number(domain[verdict])} ${verdict}`);
  return el(
    "li",
    { title: words.join(", ") },
    el("span", { class: "domain-name" }, domain.domain),
    el("span", { class: "amount" }, number(domain.total)),
    bar,
    el("span", { class: "unseen" }, words.join(", ")),
  );
}

// Adding a list: dropped, picked or pasted. Sent by XMLHttpRequest, which alone tells how much of it has gone.

import { Problem, UNREACHABLE, authorisation, call, onceKey, refuse } from "./api.js";
import { el, fill, icon, say } from "./dom.js";
import { bytes, count, share } from "./words.js";

const MOST_PASTED = 10_000; // what one call takes; more goes as a file

// What the answer to an upload says and the file's own page cannot: kept until that page shows it.
export const accepted = new Map();

/** The box. `onadded` is called when a list was taken in and its page is not opened. */
export function addList(signal, onadded) {
  const jobs = el("div", { class: "uploads" });
  const options = uploadOptions();
  const begin = (files) => sendAll([...files], { jobs, options, signal, onadded });
  return el(
    "section",
    { class: "box add", "aria-labelledby": "add-title" },
    el("h2", { id: "add-title" }, "Check a list"),
    dropZone(begin, signal),
    jobs,
    el("div", { class: "folds" }, pasteFold(begin, signal), options.node),
  );
}

function dropZone(begin, signal) {
  const input = el("input", { type: "file", id: "pick", class: "unseen", multiple: true, accept: ".csv,.tsv,.txt,.xlsx,.zip" });
  input.addEventListener("change", () => {
    begin(input.files);
    input.value = "";
  });
  const zone = el(
    "label",
    { class: "drop", for: "pick" },
    icon("upload"),
    el("span", { class: "drop-main" }, "Drop a list here, or ", el("span", { class: "like-link" }, "choose a file")),
    el("span", { class: "hint" }, "CSV, TXT, Excel or ZIP. The column with the addresses is found by itself."),
  );
  const over = (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault(); // else the browser would leave the page for the file
    zone.classList.toggle("over", event.type === "dragover");
    if (event.type === "drop") begin(event.dataTransfer.files);
  };
  for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, over, { signal });
  return el("div", { class: "drop-holder" }, input, zone);
}

function uploadOptions() {
  const column = el("input", { id: "column", type: "text", autocomplete: "off", spellcheck: "false" });
  const header = el(
    "select",
    { id: "header" },
    [["", "find out"], ["true", "names the columns"], ["false", "is an address already"]].map(([value, text]) => el("option", { value }, text)),
  );
  const wait = el("input", { id: "wait", type: "checkbox" });
  const node = el(
    "details",
    {},
    el("summary", {}, "Options"),
    el(
      "div",
      { class: "fields" },
      el("div", {}, el("label", { for: "column" }, "Column with the addresses"), column, el("p", { class: "hint" }, "Its name, or its number from 1. Empty: find out.")),
      el("div", {}, el("label", { for: "header" }, "The first row"), header),
      el("div", { class: "tick" }, wait, el("label", { for: "wait" }, "Only count first; I start it myself")),
    ),
  );
  const show = () => {
    node.open = true;
    column.focus();
  };
  return { node, show, read: () => ({ column: column.value.trim(), has_header: header.value, start: !wait.checked }) };
}

function pasteFold(begin, signal) {
  const text = el("textarea", { id: "pasted", rows: "6", spellcheck: "false", autocapitalize: "off", placeholder: "ann@example.com\nben@example.org" });
  const problem = el("p", { class: "field-problem", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    fill(problem);
    const emails = text.value.split(/[\n,;]+/).map((part) => part.trim()).filter(Boolean);
    if (!emails.length) {
      fill(problem, "Paste at least one address.");
      text.focus();
    } else if (emails.length > MOST_PASTED) {
      begin([new File([emails.join("\n")], "pasted.txt", { type: "text/plain" })]);
    } else {
      const button = event.submitter;
      button.disabled = true;
      try {
        const taken = await call("/api/v1/validate-batch", { method: "POST", body: { emails }, headers: { "Idempotency-Key": onceKey() }, signal });
        open(taken);
      } catch (error) {
        if (!signal.aborted) fill(problem, error.sentence);
      } finally {
        button.disabled = false;
      }
    }
  };
  return el(
    "details",
    {},
    el("summary", {}, "Paste addresses"),
    el(
      "form",
      { class: "paste", onsubmit: submit },
      el("label", { for: "pasted" }, "One on a line, or with commas between"),
      text,
      problem,
      el("button", { class: "primary" }, "Check them"),
    ),
  );
}

function open(taken) {
  accepted.set(taken.fileId, taken);
  say(`Accepted: ${count(taken.uniqueEmails, "address", "addresses")}`);
  window.dispatchEvent(new Event("credits-moved"));
  location.hash = `#/lists/${encodeURIComponent(taken.fileId)}`;
}

/** One after the other; a single good one is opened. */
async function sendAll(files, { jobs, options, signal, onadded }) {
  for (const file of files) {
    const job = new Job(file, options, signal);
    jobs.append(job.node);
    const taken = await job.send();
    if (signal.aborted) return;
    if (taken && files.length === 1) return open(taken);
    if (taken) {
      accepted.set(taken.fileId, taken);
      window.dispatchEvent(new Event("credits-moved"));
      await onadded();
    }
  }
}

class Job {
  #file;
  #options;
  #signal;
  #once = onceKey(); // trying again after a broken connection does not make two lists
  #bar = el("progress", { max: "1", value: "0" });
  #text = el("span", { class: "hint" });
  #end = el("span", { class: "job-end" });

  constructor(file, options, signal) {
    this.#file = file;
    this.#options = options;
    this.#signal = signal;
    this.#bar.setAttribute("aria-label", "Upload");
    this.node = el("div", { class: "job" }, el("span", { class: "job-name" }, file.name), this.#bar, this.#text, this.#end);
  }

  /** What the gateway answered; null when it would not, which is then said here. */
  async send() {
    fill(this.#end);
    this.#bar.hidden = false;
    this.node.classList.remove("failed");
    try {
      const taken = await this.#post();
      this.#bar.hidden = true;
      fill(this.#text, `Accepted: ${count(taken.uniqueEmails, "address", "addresses")}. `, el("a", { href: `#/lists/${encodeURIComponent(taken.fileId)}` }, "Open"));
      return taken;
    } catch (error) {
      if (!this.#signal.aborted) this.#fail(error);
      return null;
    }
  }

  #fail(error) {
    this.#bar.hidden = true;
    this.node.classList.add("failed");
    fill(this.#text);
    const sentence = error instanceof Problem ? error.sentence : String(error);
    const again = async () => {
      if (error.status >= 400 && error.status < 500) this.#once = onceKey(); // another question, not the same once more
      const taken = await this.send();
      if (taken) open(taken);
    };
    const whichColumn = ["column", "has_header"].includes(error.body?.field) || error.code === "no_email_column";
    if (whichColumn) this.#options.show();
    const mayHelp = whichColumn || !(error.status >= 400 && error.status < 500) || [402, 409, 429].includes(error.status);
    fill(
      this.#end,
      el("span", { class: "problem-text", role: "alert" }, sentence),
      mayHelp && el("button", { type: "button", onclick: again }, "Try again"),
      el("button", { type: "button", class: "quiet", onclick: () => this.node.remove() }, "Dismiss"),
    );
  }

  #post() {
    const { column, has_header: hasHeader, start } = this.#options.read();
    const form = new FormData();
    if (column) form.append("column", column);
    if (hasHeader) form.append("has_header", hasHeader);
    form.append("file", this.#file);
    return new Promise((resolve, reject) => {
      const sending = new XMLHttpRequest();
      sending.open("POST", `/api/v1/files${start ? "" : "?start=false"}`);
      for (const [name, value] of Object.entries({ ...authorisation(), "Idempotency-Key": this.#once })) sending.setRequestHeader(name, value);
      sending.upload.onprogress = ({ loaded, total }) => this.#show(loaded, total);
      sending.onerror = () => reject(UNREACHABLE);
      sending.onload = () => {
        try {
          resolve(sending.status === 202 ? JSON.parse(sending.responseText) : refuse(sending.status, sending.responseText));
        } catch (error) {
          reject(error);
        }
      };
      this.#signal.addEventListener("abort", () => sending.abort(), { once: true });
      this.#show(0, this.#file.size);
      sending.send(form);
    });
  }

  #show(loaded, total) {
    if (loaded < total) {
      this.#bar.value = total ? loaded / total : 0;
      fill(this.#text, `Sending ${bytes(this.#file.size)}: ${share(total ? loaded / total : 0)}`);
    } else {
      this.#bar.removeAttribute("value"); // under way, for who knows how long
      fill(this.#text, "Reading the list…");
    }
  }
}

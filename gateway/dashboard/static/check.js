// One address, asked while you wait; where the server wants more time, asked for again, free of charge.

import { onceKey, request, wasAborted } from "./api.js";
import { resultCard } from "./details.js";
import { el, fill, pause, say } from "./dom.js";
import { VERDICT_WORDS, duration } from "./words.js";

const TIMEOUT = 20; // seconds
const POLL = 2_000;

export function checkView(signal) {
  const input = el("input", { id: "address", type: "text", inputmode: "email", required: true, autocomplete: "off", autocapitalize: "off", spellcheck: "false", placeholder: "ann@example.com", maxlength: "2000" });
  const answer = el("div", { class: "answer", role: "status" });
  let asking = new AbortController();
  const submit = async (event) => {
    event.preventDefault();
    asking.abort();
    asking = new AbortController();
    const mine = AbortSignal.any([signal, asking.signal]);
    fill(answer, el("p", { class: "hint" }, "Asking the mail server…"));
    try {
      const result = await check(input.value.trim(), mine, (text) => fill(answer, el("p", { class: "hint" }, text)));
      if (mine.aborted) return;
      fill(answer, el("section", { class: "box" }, el("h2", { class: "one-address" }, result.email), resultCard(result)));
      say(`${result.email}: ${VERDICT_WORDS[result.status]}`);
    } catch (error) {
      if (!mine.aborted && !wasAborted(error)) fill(answer, el("p", { class: "box problem", role: "alert" }, error.sentence ?? "Something went wrong on this page."));
    } finally {
      window.dispatchEvent(new Event("credits-moved"));
    }
  };
  return [
    el("h1", {}, "Check one address"),
    el(
      "form",
      { class: "box", onsubmit: submit },
      el("label", { for: "address" }, "E-mail address"),
      el("div", { class: "with-button" }, input, el("button", { class: "primary" }, "Check")),
      el("p", { class: "hint" }, "One credit for a verdict; nothing where the server says nothing about the mailbox."),
    ),
    answer,
  ];
}

async function check(email, signal, tell) {
  let response = await request("/api/v1/validate", { method: "POST", body: { email, timeout: TIMEOUT }, headers: { "Idempotency-Key": onceKey() }, signal });
  let body = await response.json();
  while (response.status === 202) {
    const left = body.etaSeconds ? ` About ${duration(body.etaSeconds)} left.` : "";
    tell(`The mail server asked to come back later. You may wait here, or come back to this page another time.${left}`);
    await pause(POLL, signal);
    response = await request(`/api/v1/validate/${encodeURIComponent(body.id)}`, { signal });
    body = await response.json();
  }
  return body;
}

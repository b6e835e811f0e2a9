// API keys: made, shown once, revoked.

import { call, onceKey, query } from "./api.js";
import { actionButton, confirmed, el, fill, openDialog, say } from "./dom.js";
import { dateTime, since } from "./words.js";

const PAGE = 100;
const USUAL = ["files:read", "files:write", "validate:write", "credits:read"];
const RIGHTS = [
  ["usual", "Check lists and addresses, read credits", USUAL],
  ["read", "Only read lists, results and credits", ["files:read", "credits:read"]],
  ["all", "Everything that I may do", ["*"]],
  ["test", "Try everything in the sandbox, free of charge", [...USUAL, "webhooks:read", "webhooks:write"]],
];

export async function keysView(signal) {
  const problem = el("p", { class: "field-problem", role: "alert" });
  const onproblem = (error) => fill(problem, error.sentence ?? "Something went wrong on this page.");
  const list = el("div");
  const load = async () => fill(list, keysTable(await allKeys(signal), { onproblem, load }));
  await load();
  return [
    el("h1", {}, "API keys"),
    newKeyForm({ load, onproblem, problem }),
    el("section", { "aria-labelledby": "keys-title" }, el("h2", { id: "keys-title" }, "Your keys"), list),
  ];
}

async function allKeys(signal) {
  const keys = [];
  let cursor = null;
  do {
    const { items, nextCursor } = await call(query("/api/v1/api-keys", { limit: PAGE, cursor }), { signal });
    keys.push(...items);
    cursor = nextCursor;
  } while (cursor);
  return keys;
}

function newKeyForm({ load, onproblem, problem }) {
  const name = el("input", { id: "key-name", required: true, maxlength: "100", autocomplete: "off", placeholder: "What it is for" });
  const rights = el("select", { id: "key-rights" }, RIGHTS.map(([value, words]) => el("option", { value }, words)));
  const submit = async (event) => {
    event.preventDefault();
    fill(problem);
    event.submitter.disabled = true;
    try {
      const scopes = RIGHTS.find(([value]) => value === rights.value)[2];
      const made = await call("/api/v1/api-keys", { method: "POST", body: { name: name.value.trim(), scopes, test: rights.value === "test" }, headers: { "Idempotency-Key": onceKey() } });
      name.value = "";
      await Promise.all([load(), showKey(made)]);
    } catch (error) {
      onproblem(error);
    } finally {
      event.submitter.disabled = false;
    }
  };
  return el(
    "form",
    { class: "box new-key", onsubmit: submit },
    el("h2", {}, "New key"),
    el(
      "div",
      { class: "fields" },
      el("div", {}, el("label", { for: "key-name" }, "Name"), name),
      el("div", {}, el("label", { for: "key-rights" }, "What it may do"), rights),
      el("button", { class: "primary" }, "Make a key"),
    ),
    problem,
  );
}

function showKey({ key }) {
  const field = el("input", { class: "secret", readonly: true, value: key, "aria-label": "The new key", onfocus: (event) => event.target.select() });
  const copied = el("span", { class: "hint", role: "status" });
  const copy = async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(key);
      fill(copied, "Copied.");
    } catch {
      fill(copied, "Press Ctrl-C or ⌘-C to copy."); // no clipboard without HTTPS
    }
  };
  const content = el(
    "div",
    {},
    el("p", {}, "Copy it now: it is shown this once and never again."),
    el("div", { class: "with-button" }, field, el("button", { type: "button", class: "primary", onclick: copy }, "Copy")),
    copied,
  );
  return openDialog("Your new key", content, [["done", "I have it", ""]]);
}

function keysTable(keys, { onproblem, load }) {
  if (!keys.length) return el("p", { class: "empty" }, "None yet.");
  const names = ["Name", "Begins with", "May", "Used", ""];
  return el(
    "div",
    { class: "box flush" },
    el(
      "table",
      { class: "keys" },
      el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name || el("span", { class: "unseen" }, "Revoke"))))),
      el("tbody", {}, keys.map((key) => keyRow(key, { onproblem, load }))),
    ),
  );
}

function keyRow(key, { onproblem, load }) {
  const revoke = async () => {
    const text = `Whoever uses “${key.name}” is refused within seconds. This cannot be undone.`;
    if (!(await confirmed("Revoke this key?", text, "Revoke"))) return;
    await call(`/api/v1/api-keys/${encodeURIComponent(key.id)}`, { method: "DELETE" });
    say("The key was revoked.");
    await load();
  };
  const rights = RIGHTS.find(([, , scopes]) => scopes.length === key.scopes.length && scopes.every((scope) => key.scopes.includes(scope)));
  const may = key.test ? "use the sandbox" : key.scopes.includes("*") ? "everything" : rights?.[0] === "usual" ? "check and read" : rights?.[0] === "read" ? "read" : key.scopes.join(", ");
  return el(
    "tr",
    { class: key.revokedAt && "revoked" },
    el("td", { class: "name" }, key.name, key.test && el("span", { class: "status" }, "Test")),
    el("td", {}, key.prefix ? el("code", {}, `${key.prefix}…`) : "–"),
    el("td", {}, may),
    el("td", { class: "when", "data-label": "used " }, key.lastUsedAt ? el("time", { datetime: key.lastUsedAt, title: dateTime(key.lastUsedAt) }, since(key.lastUsedAt)) : "never"),
    el("td", { class: "row-action" }, key.revokedAt ? el("span", { class: "hint" }, "Revoked") : actionButton("Revoke", revoke, { onproblem, kind: "danger-quiet small", "aria-label": `Revoke ${key.name}` })),
  );
}

// The API as the page uses it: the key, calls, and problems as sentences.

const KEPT = "mailvet.key";

/** The key lives as long as the tab. */
export const session = {
  get key() {
    return sessionStorage.getItem(KEPT);
  },
  keep(key) {
    sessionStorage.setItem(KEPT, key);
  },
  forget() {
    sessionStorage.removeItem(KEPT);
  },
};

/** An answer other than the one hoped for (RFC 9457), or none at all (`status` 0). */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail ?? body.title ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body.code ?? "";
    this.body = body;
  }

  /** One or two sentences for people. */
  get sentence() {
    const { line, row, columns, required, available } = this.body;
    const said = [/[.!?]$/.test(this.message) ? this.message : `${this.message}.`];
    if (this.code === "insufficient_credits" && required !== undefined) {
      said.push(`It needs ${required} credits and you have ${available ?? 0}.`);
    }
    if (line !== undefined && !this.message.includes(String(line))) said.push(`See line ${line}.`);
    if (row !== undefined && !this.message.includes(String(row))) said.push(`See row ${row}.`);
    if (Array.isArray(columns) && columns.length) said.push(`The columns are: ${columns.slice(0, 20).join(", ")}.`);
    return said.join(" ").replaceAll(/`([^`]*)`/g, "“$1”");
  }
}

export const UNREACHABLE = new Problem(0, { detail: "The server cannot be reached. Is it running?", code: "unreachable" });

export function authorisation() {
  return session.key ? { Authorization: `Bearer ${session.key}` } : {};
}

/** Raise the answer as a Problem; a refused key ends the session. */
export function refuse(status, text) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // whatever stands between us and the gateway does not speak JSON
  }
  if (status === 401) {
    session.forget();
    window.dispatchEvent(new Event("signed-out"));
  }
  throw new Problem(status, body);
}

/** The Response, which is a good one. Raises Problem. */
export async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: { ...authorisation(), ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : UNREACHABLE;
  }
  if (!response.ok) refuse(response.status, await response.text());
  return response;
}

/** The answer's JSON; null where there is none. */
export async function call(path, options) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

export function query(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const filePath = (id, rest = "") => `/api/v1/files/${encodeURIComponent(id)}${rest}`;

/** A new key for the Idempotency-Key header: with it, trying again never does it twice. */
export function onceKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Fetch a file and hand it to the browser's downloads: a plain link could not carry the key. */
export async function download(path) {
  const response = await request(path);
  const told = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") ?? "");
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = told ? decodeURIComponent(told[1]) : "download";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  return link.download;
}

export const wasAborted = (error) => error?.name === "AbortError";

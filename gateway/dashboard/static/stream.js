// Server-sent events by fetch, because EventSource cannot send the key.
//
// A connection that breaks, or is silent for longer than two heartbeats, is opened again with Last-Event-ID after a
// growing pause; the server then goes on without a gap. `done` and `failed` end it for good, as does an answer that
// will not get better by asking again.

import { Problem, request, wasAborted } from "./api.js";
import { pause } from "./dom.js";

const SILENCE = 25_000; // the server says something every 10 s
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;
const ENDS = new Set(["done", "failed"]);

/** Text in, events out: `{id, event, data}`. Comments and fields of no use are skipped. */
export class EventReader {
  #rest = "";
  #event = "";
  #data = [];
  #id = "";

  *feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) {
      const whole = this.#take(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (whole) yield whole;
    }
  }

  #take(line) {
    if (line === "") return this.#flush();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id") this.#id = value;
    return null;
  }

  #flush() {
    const whole = this.#data.length ? { id: this.#id, event: this.#event || "message", data: this.#data.join("\n") } : null;
    this.#event = "";
    this.#data = [];
    return whole;
  }
}

/** Until the end of the file or of `signal`. `onevent(name, object)`; `onconnection(whether there is one)`. */
export async function follow(path, { signal, onevent, onconnection }) {
  let last = "";
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      for await (const { id, event, data } of connect(path, last, signal)) {
        if (wait !== FIRST_WAIT || !last) onconnection(true);
        wait = FIRST_WAIT;
        last = id || last;
        onevent(event, JSON.parse(data));
        if (ENDS.has(event)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (isFinal(error)) throw error;
    }
    if (signal.aborted) return;
    onconnection(false);
    await pauseUntilOnline(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

async function* connect(path, last, signal) {
  const broken = new AbortController();
  const give = () => broken.abort();
  signal.addEventListener("abort", give, { once: true });
  let watchdog = setTimeout(give, SILENCE);
  try {
    const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
    const response = await request(path, { headers, signal: broken.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(give, SILENCE);
      yield* events.feed(value);
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", give);
    give();
  }
}

function isFinal(error) {
  if (error instanceof Problem) return error.status >= 400 && error.status < 500 && ![408, 429].includes(error.status);
  return !(wasAborted(error) || error instanceof TypeError || error?.name === "NetworkError");
}

async function pauseUntilOnline(milliseconds, signal) {
  const sooner = new AbortController();
  const end = () => sooner.abort();
  signal.addEventListener("abort", end, { once: true });
  window.addEventListener("online", end, { once: true });
  await pause(milliseconds, sooner.signal);
  signal.removeEventListener("abort", end);
  window.removeEventListener("online", end);
}

// Verdicts as badges, bars and tiles. Colour never stands alone: there is always a sign, a word or a number.

import { el, fill, icon } from "./dom.js";
import { STATUS_WORDS, VERDICTS, VERDICT_WORDS, number, share } from "./words.js";

export const verdictBadge = (verdict) => el("span", { class: `verdict ${VERDICT_WORDS[verdict] ? verdict : "unknown"}` }, icon(VERDICT_WORDS[verdict] ? verdict : "unknown"), VERDICT_WORDS[verdict] ?? verdict);

/** Of what a test key made. */
export const testBadge = () => el("span", { class: "status", title: "Made with a test key: the verdicts are made up" }, "Test");

export const statusBadge = (status) => el("span", { class: `status ${STATUS_WORDS[status] ? status : ""}` }, STATUS_WORDS[status] ?? status);

/** The verdicts of `counts` side by side, of `total`. For the eye only. */
export function verdictBar(counts, total, kind = "") {
  const bar = el("div", { class: `verdict-bar ${kind}`, "aria-hidden": "true" });
  return fillBar(bar, counts, total);
}

/** `seen`: how many are checked, of which some may not be counted yet. */
export function fillBar(bar, counts, total, seen = 0) {
  const counted = VERDICTS.reduce((sum, verdict) => sum + (counts[verdict] ?? 0), 0);
  const parts = VERDICTS.map((verdict) => [verdict, counts[verdict] ?? 0]);
  parts.push(["seen", Math.max(0, seen - counted)]);
  if (bar.childElementCount !== parts.length) fill(bar, parts.map(([name]) => el("span", { class: name })));
  parts.forEach(([, value], at) => (bar.children[at].style.width = total ? `${(100 * value) / total}%` : "0"));
  return bar;
}

/** Four tiles; a press calls `onpick(verdict)`. Returns the node and `update(counts)`. */
export function verdictTiles(onpick) {
  const numbers = {};
  const shares = {};
  const tiles = VERDICTS.map((verdict) => {
    numbers[verdict] = el("strong", { class: "tile-number" }, "0");
    shares[verdict] = el("span", { class: "tile-share" });
    return el(
      "button",
      { type: "button", class: `tile ${verdict}`, onclick: () => onpick(verdict), title: `Show the ${verdict} ones` },
      el("span", { class: "tile-name" }, icon(verdict), VERDICT_WORDS[verdict]),
      numbers[verdict],
      shares[verdict],
    );
  });
  const update = (counts) => {
    for (const verdict of VERDICTS) {
      fill(numbers[verdict], number(counts[verdict]));
      fill(shares[verdict], counts.processed ? share((counts[verdict] ?? 0) / counts.processed) : "");
    }
  };
  return [el("div", { class: "tiles" }, tiles), update];
}

// Building the page. Text from anywhere becomes text nodes and attribute values, never markup.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  valid: "M4 10.5 8.2 14.5 16 6",
  invalid: "M5.5 5.5 14.5 14.5M14.5 5.5 5.5 14.5",
  risky: "M10 4.5v7M10 15v.4",
  unknown: "M7.2 7.6a2.8 2.8 0 1 1 4.2 2.4c-.9.6-1.4 1.1-1.4 2.1M10 15.2v.3",
  upload: "M10 13.5V4M6 7.5 10 3.5l4 4M3.5 13v2.5a1 1 0 0 0 1 1h11a1 1 0 0 0 1-1V13",
  download: "M10 3.5V13M6 9.5l4 4 4-4M3.5 16.5h13",
};

/** An element. Attributes named `on…` are listeners; null and false ones are left out, as are such children. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  return fill(node, ...children);
}

/** Replace what is in `node`. */
export function fill(node, ...children) {
  const kept = children.flat(2).filter((child) => child !== null && child !== undefined && child !== false);
  node.replaceChildren(...kept.map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 20 20");
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  drawing.append(path);
  return drawing;
}

/** Tell those who do not see the page. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** A button that is out of use while what it began is under way; what goes wrong goes to `onproblem`. */
export function actionButton(label, action, { kind = "", onproblem, ...attributes } = {}) {
  const button = el("button", { type: "button", class: kind, ...attributes }, label);
  button.addEventListener("click", async () => {
    button.setAttribute("aria-busy", "true");
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      onproblem(error);
    } finally {
      button.disabled = false;
      button.removeAttribute("aria-busy");
    }
  });
  return button;
}

/** A modal dialog; the browser keeps the focus inside and gives it back. Resolves with the pressed button's value. */
export function openDialog(title, content, buttons = [["close", "Close", ""]]) {
  return new Promise((resolve) => {
    const close = (value) => dialog.close(value);
    const dialog = el(
      "dialog",
      { "aria-labelledby": "dialog-title" },
      el("h2", { id: "dialog-title" }, title),
      content,
      el(
        "div",
        { class: "dialog-buttons" },
        buttons.map(([value, label, kind]) => el("button", { type: "button", class: kind, onclick: () => close(value) }, label)),
      ),
    );
    dialog.addEventListener("click", (event) => event.target === dialog && close(""));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export async function confirmed(title, text, label) {
  const answer = await openDialog(title, el("p", {}, text), [
    ["no", "Keep it", ""],
    ["yes", label, "danger"],
  ]);
  return answer === "yes";
}

/** Wait, or less long when the signal is aborted. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

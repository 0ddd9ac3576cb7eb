// What all views share: who hears events now, messages, dialogs.

import { el, show } from "./dom.js";

// The view that is shown: told each event, told when it is left.
export const here = { now: { heard: () => {}, leave: () => {}, left: false } };

// Says in the window's title what is looked at; returns it.
export function title(text) {
  document.title = `${show(text)} · P8`;
  return text;
}

// Text of an entry's field, whatever it is.
export function plain(value) {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return value.map((part) => plain(part && typeof part === "object" ? part.text : part)).filter(Boolean).join("\n");
  if (typeof value === "object") return typeof value.text === "string" ? value.text : JSON.stringify(value);
  return String(value);
}

let gone;
export function tell(...what) {
  document.getElementById("told")?.remove();
  const box = el("p", { id: "told", class: "card", role: "status" }, what);
  document.getElementById("main").prepend(box);
  clearTimeout(gone);
  gone = setTimeout(() => box.remove(), 12000);
  return box;
}

export function failed(error) {
  if (error.status === 401) {
    document.getElementById("main").replaceChildren(el("div", { class: "empty" }, el("h1", null, "Not logged in"),
      el("p", null, error.message), el("p", null, el("code", null, "p8 serve --link"), " prints a link that logs this browser in.")));
    return;
  }
  tell(el("span", { class: "alert" }, error.message), error.hint ? " — " + error.hint : "");
}

// Asks; resolves to true, "other" or false. Without a name for yes it only shows.
export function confirmed(title, content, yes, other) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    const buttons = [
      yes ? el("button", { class: "go", value: "yes", type: "submit" }, yes) : "",
      other ? el("button", { value: "other", type: "submit" }, other) : "",
      el("button", { value: "no", type: "submit" }, yes ? "Cancel" : "Close"),
    ];
    const form = el("form", { class: "ask" }, el("h1", { id: "dialog-title" }, show(title)), content, el("div", { class: "bar" }, buttons));
    form.addEventListener("submit", (event) => { event.preventDefault(); dialog.close(event.submitter?.value || "no"); });
    dialog.replaceChildren(form);
    dialog.returnValue = "no";
    const before = document.activeElement;
    dialog.onclose = () => { // told a moment after the browser has given the focus back: whoever has moved on stays there
      if (before?.isConnected && document.activeElement === document.body) before.focus();
      resolve(dialog.returnValue === "yes" ? true : dialog.returnValue === "other" ? "other" : false);
    };
    dialog.showModal();
    (form.querySelector("input, select") || form.querySelector(yes || other ? ".bar button" : "[tabindex], button"))?.focus();
  });
}

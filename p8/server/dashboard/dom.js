// Elements from data. Whatever is text becomes a text node; attributes are set from a short list of names.

const ALLOWED = new Set([
  "class", "id", "href", "type", "value", "placeholder", "title", "role", "tabindex", "for", "name", "scope", "open",
  "disabled", "autocomplete", "spellcheck", "selected", "viewBox", "preserveAspectRatio", "x", "y", "width", "height",
  "x1", "x2", "y1", "y2", "points", "d", "r", "cx", "cy", "text-anchor", "min", "max", "rows", "maxlength", "required", "datetime",
]);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on") && typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === false || value === undefined || value === null) continue;
    else if (name === "href" && !/^(#|\/)/.test(value)) continue;
    else if (ALLOWED.has(name) || name.startsWith("aria-") || name.startsWith("data-")) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(show(child)));
  }
  return node;
}

// Control characters and those that turn the direction of text are made visible, so that nothing looks like what it is not.
export const show = (text) =>
  String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u200e\u200f]/g, (c) => c === "\r" ? "" : "�");

export const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

export const count = (number) => Number(number || 0).toLocaleString("en");

export function size(bytes) {
  if (bytes === undefined || bytes === null) return "–";
  return bytes >= 1 << 30 ? (bytes / (1 << 30)).toFixed(1) + " GiB" : (bytes / (1 << 20)).toFixed(bytes < 10 << 20 ? 1 : 0) + " MiB";
}

export function ago(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  for (const [limit, size, unit] of [[60, 1, "s"], [3600, 60, "m"], [86400, 3600, "h"], [1209600, 86400, "d"]])
    if (seconds < limit) return Math.floor(seconds / size) + unit;
  return String(time).slice(0, 10);
}

// A snippet with its marks; marks are [start, end) in characters, not in UTF-16 units.
export function marked(text, marks) {
  const letters = Array.from(String(text)), parts = [];
  let at = 0;
  for (const [from, to] of marks || []) {
    if (from < at) continue;
    parts.push(letters.slice(at, from).join(""), el("mark", null, letters.slice(from, to).join("")));
    at = to;
  }
  return [...parts, letters.slice(at).join("")];
}

export function table(columns, rows, empty) {
  if (!rows.length) return el("p", { class: "empty" }, empty);
  return el("div", { class: "scroll" }, el("table", null,
    el("thead", null, el("tr", null, columns.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)))),
    el("tbody", null, rows.map((row) => el("tr", { tabindex: "-1", class: "move" },
      row.map((cell, n) => el("td", { class: columns[n][1] }, cell)))))));
}

// A heading with what stands under it; nothing where there is nothing.
export const part = (title, ...what) => [el("h2", null, title), ...what];

export const facts = (rows) => el("dl", null, rows.filter(([, value]) => value !== "" && value !== undefined && value !== null && value !== false)
  .map(([name, value]) => [el("dt", null, name), el("dd", null, value)]));

export const button = (name, act, kind) => el("button", { type: "button", class: kind, onclick: act }, name);

// Elements from data. Whatever is text becomes a text node; attributes are set from a short list of names.

const ALLOWED = new Set([
  "class", "id", "href", "type", "value", "placeholder", "title", "role", "tabindex", "for", "name", "scope", "open",
  "disabled", "autocomplete", "spellcheck", "selected", "viewBox", "preserveAspectRatio", "x", "y", "width", "height",
  "x1", "x2", "y1", "y2", "text-anchor", "min", "max",
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

export function bars(days, names) {
  const width = 720, height = 180, foot = 18, most = Math.max(1, ...days.map((d) => Math.max(...d.values)));
  const step = width / Math.max(days.length, 1);
  return svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": names.join(", ") + " a day" },
    svg("line", { x1: 0, x2: width, y1: height - foot, y2: height - foot }),
    days.map((day, n) => [
      day.values.map((value, k) => svg("rect", {
        class: k ? "second" : "", x: n * step + step * (0.15 + 0.36 * k), width: Math.max(step * 0.34, 1),
        y: height - foot - (value / most) * (height - foot - 14), height: (value / most) * (height - foot - 14),
      }, svg("title", null, `${day.name}: ${value} ${names[k]}`))),
      days.length < 20 || n % 5 === 0 ? svg("text", { x: n * step + step / 2, y: height - 4, "text-anchor": "middle" }, day.name.slice(5)) : null,
    ]),
    svg("text", { x: 2, y: 11 }, most.toLocaleString()));
}

// Numbers as pictures, drawn here. Each has a name and its figures as text, for whoever does not see it.

import { count, el, svg } from "./dom.js";

const WIDTH = 720;

// A round number at or above the greatest value, for the top of an axis.
export function top(values) {
  const most = Math.max(1, ...values), size = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * size).find((step) => step >= most);
}

const axis = (most, height, left, show) => [0, 0.5, 1].map((part) => {
  const y = 12 + (1 - part) * (height - 12);
  return [svg("line", { x1: left, x2: WIDTH, y1: y, y2: y, class: part ? "grid" : "" }), svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, show(most * part))];
});

const legend = (series) => el("p", { class: "legend" }, series.map(([name], n) => el("span", { class: "key k" + n }, name)));

const brief = (number) => number >= 1e6 ? +(number / 1e6).toFixed(1) + " M" : number >= 1e4 ? Math.round(number / 1e3) + " k" : count(number);

// The figures behind a picture, to be unfolded.
const figures = (title, columns, rows) => el("details", null, el("summary", null, "Figures"),
  el("div", { class: "scroll" }, el("table", { "aria-label": title }, el("thead", null, el("tr", null, columns.map((name, n) => el("th", { scope: "col", class: n ? "num" : "" }, name)))),
    el("tbody", null, rows.map((row) => el("tr", null, row.map((cell, n) => el("td", { class: n ? "num" : "" }, n ? count(cell) : cell))))))));

// Bars by label, one beside the other for each series: [[name, [values]], …].
export function bars(title, labels, series) {
  const height = 190, left = 46, step = (WIDTH - left) / Math.max(labels.length, 1), most = top(series.flatMap(([, values]) => values));
  const wide = Math.max(1, Math.min(26, step * 0.76 / series.length)), every = Math.ceil(labels.length / 14);
  const one = (value, n, k) => {
    const tall = (value / most) * (height - 12);
    return svg("rect", { class: "k" + k, x: left + n * step + (step - wide * series.length) / 2 + k * wide, y: height - tall, width: Math.max(wide - 1, 1), height: tall },
      svg("title", null, `${labels[n]}: ${count(value)} ${series[k][0]}`));
  };
  return el("figure", null, el("figcaption", null, el("span", null, title), legend(series)),
    svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${height + 20}`, role: "img", "aria-label": title }, axis(most, height, left, brief),
      series.map(([, values], k) => values.map((value, n) => one(value, n, k))),
      labels.map((label, n) => n % every ? null : svg("text", { x: left + n * step + step / 2, y: height + 16, "text-anchor": "middle" }, label))),
    figures(title, ["", ...series.map(([name]) => name)], labels.map((label, n) => [label, ...series.map(([, values]) => values[n])])));
}

// Lines over one axis: [[name, [values]], …]; `labels` are of the points.
export function lines(title, labels, series) {
  const height = 190, left = 46, points = Math.max(2, ...series.map(([, values]) => values.length));
  const values = series.flatMap(([, all]) => all), most = top(values), least = Math.min(0, ...values), span = most - least || 1;
  const x = (n) => left + (n / (points - 1)) * (WIDTH - left - 8), y = (value) => 12 + (1 - (value - least) / span) * (height - 12);
  const path = (all) => all.map((value, n) => `${x(n).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return el("figure", null, el("figcaption", null, el("span", null, title), legend(series)),
    svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${height + 20}`, role: "img", "aria-label": title }, axis(most, height, left, brief),
      series.map(([name, all], k) => [svg("polyline", { class: "k" + k, points: path(all) }),
        all.map((value, n) => svg("circle", { class: "k" + k, cx: x(n), cy: y(value), r: points > 40 ? 1.5 : 3 }, svg("title", null, `${labels[n] ?? n}: ${count(Math.round(value))} ${name}`)))]),
      svg("text", { x: left, y: height + 16 }, labels[0] ?? ""), svg("text", { x: WIDTH - 8, y: height + 16, "text-anchor": "end" }, labels[labels.length - 1] ?? "")),
    figures(title, ["", ...series.map(([name]) => name)], Array.from({ length: points }, (_, n) => [String(labels[n] ?? n), ...series.map(([, all]) => Math.round(all[n] ?? 0))])));
}

// Rows with a bar each, the longest as long as there is room: [[name, value, shown], …].
export function rows(title, found) {
  const most = Math.max(1, ...found.map(([, value]) => value));
  return el("figure", { class: "rowplot" }, el("figcaption", null, title), found.length
    ? el("table", null, el("tbody", null, found.map(([name, value, shown]) => el("tr", null, el("th", { scope: "row" }, name || "–"),
      el("td", null, svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "k0", x: 0, y: 1, width: Math.max((value / most) * 100, 0.5), height: 8 }))),
      el("td", { class: "num" }, shown ?? count(value))))))
    : el("p", { class: "dim" }, "Nothing yet."));
}

// A line without axes, the newest value at the right; `room` values fit, and the top is `most` or what is needed.
export function spark(name, room = 60) {
  const node = svg("svg", { class: "spark", viewBox: "0 0 120 28", preserveAspectRatio: "none", role: "img", "aria-label": name });
  return [node, (values, most) => {
    const high = Math.max(most, ...values, 1e-9), x = (n) => 120 - (values.length - 1 - n) * (120 / (room - 1));
    const points = values.map((value, n) => `${x(n).toFixed(1)},${(27 - (value / high) * 25).toFixed(1)}`);
    node.replaceChildren(...(points.length > 1 ? [
      svg("polygon", { points: `${x(0).toFixed(1)},28 ${points.join(" ")} 120,28` }), svg("polyline", { class: "k0", points: points.join(" ") })] : []));
  }];
}

// Numbers as pictures, drawn here. Each has a name and its figures as text, for whoever does not see it.

import { count, el, svg } from "./dom.js";

const HEIGHT = 186, LEFT = 46, FOOT = 20; // pixels; the width is what there is room for

// A round number at or above the greatest value, for the top of an axis.
export function top(values) {
  const most = Math.max(1, ...values), size = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((step) => step * size).find((step) => step >= most);
}

// A picture that is drawn again when the room for it changes.
function picture(title, draw) {
  const node = svg("svg", { class: "plot", role: "img", "aria-label": title });
  let drawn = 0;
  new ResizeObserver(([now]) => {
    const width = Math.round(now.contentRect.width);
    if (!width || width === drawn) return;
    drawn = width;
    node.setAttribute("viewBox", `0 0 ${width} ${HEIGHT + FOOT + 2}`);
    node.replaceChildren(svg("g", null, draw(width)));
  }).observe(node);
  return node;
}

const axis = (most, width, show) => [0, 0.5, 1].map((part) => {
  const y = 12 + (1 - part) * (HEIGHT - 12);
  return [svg("line", { x1: LEFT, x2: width, y1: y, y2: y, class: part ? "grid" : "" }), svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, show(most * part))];
});

const legend = (series) => el("p", { class: "legend" }, series.map(([name], n) => el("span", { class: "key k" + n }, name)));

const brief = (number) => number >= 1e6 ? +(number / 1e6).toFixed(1) + " M" : number >= 1e4 ? Math.round(number / 1e3) + " k" : count(number);

// The figures behind a picture, to be unfolded.
const figures = (title, columns, rows) => el("details", null, el("summary", null, "Figures"),
  el("div", { class: "scroll" }, el("table", { "aria-label": title }, el("thead", null, el("tr", null, columns.map((name, n) => el("th", { scope: "col", class: n ? "num" : "" }, name)))),
    el("tbody", null, rows.map((row) => el("tr", null, row.map((cell, n) => el("td", { class: n ? "num" : "" }, n ? count(cell) : cell))))))));

// Bars by label, one beside the other for each series: [[name, [values]], …].
export function bars(title, labels, series) {
  const most = top(series.flatMap(([, values]) => values));
  const draw = (width) => {
    const step = (width - LEFT) / Math.max(labels.length, 1), wide = Math.max(1, Math.min(26, step * 0.76 / series.length)), every = Math.ceil(labels.length / Math.max(1, (width - LEFT) / 48));
    const one = (value, n, k) => {
      const tall = (value / most) * (HEIGHT - 12);
      return svg("rect", { class: "k" + k, x: LEFT + n * step + (step - wide * series.length) / 2 + k * wide, y: HEIGHT - tall, width: Math.max(wide - 1, 1), height: tall },
        svg("title", null, `${labels[n]}: ${count(value)} ${series[k][0]}`));
    };
    return [axis(most, width, brief), series.map(([, values], k) => values.map((value, n) => one(value, n, k))),
      labels.map((label, n) => n % every ? null : svg("text", { x: LEFT + n * step + step / 2, y: HEIGHT + 16, "text-anchor": "middle" }, label))];
  };
  return el("figure", null, el("figcaption", null, el("span", null, title), legend(series)), picture(title, draw),
    figures(title, ["", ...series.map(([name]) => name)], labels.map((label, n) => [label, ...series.map(([, values]) => values[n])])));
}

// Lines over one axis: [[name, [values]], …]; `labels` are of the points.
export function lines(title, labels, series) {
  const points = Math.max(2, ...series.map(([, values]) => values.length)), values = series.flatMap(([, all]) => all);
  const most = top(values), least = Math.min(0, ...values), span = most - least || 1;
  const draw = (width) => {
    const x = (n) => LEFT + (n / (points - 1)) * (width - LEFT - 8), y = (value) => 12 + (1 - (value - least) / span) * (HEIGHT - 12);
    const path = (all) => all.map((value, n) => `${x(n).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    return [axis(most, width, brief), series.map(([name, all], k) => [svg("polyline", { class: "k" + k, points: path(all) }),
      all.map((value, n) => svg("circle", { class: "k" + k, cx: x(n), cy: y(value), r: points > 40 ? 1.5 : 3 }, svg("title", null, `${labels[n] ?? n}: ${count(Math.round(value))} ${name}`)))]),
    svg("text", { x: LEFT, y: HEIGHT + 16 }, labels[0] ?? ""), svg("text", { x: width - 8, y: HEIGHT + 16, "text-anchor": "end" }, labels[labels.length - 1] ?? "")];
  };
  return el("figure", null, el("figcaption", null, el("span", null, title), legend(series)), picture(title, draw),
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

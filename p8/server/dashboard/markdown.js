// Markdown as assistants write it, as elements: paragraphs, headings, lists, code, emphasis. Links and pictures stay text.

import { el } from "./dom.js";

const LONGEST = 60_000;
const INLINE = /(`+)([^`]{1,500}?)\1(?!`)|\*\*([^*\n]{1,500})\*\*|(?<![\w*])\*([^*\s](?:[^*\n]{0,300}[^*\s])?)\*(?![\w*])/g;

function inline(text) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    found.push(text.slice(at, match.index));
    if (match[1]) found.push(el("code", null, match[2]));
    else found.push(el(match[3] ? "strong" : "em", null, match[3] || match[4]));
    at = match.index + match[0].length;
  }
  return [...found, text.slice(at)];
}

export function rendered(text) {
  if (text.length > LONGEST) return [el("pre", null, text)];
  const out = [];
  let lines = [], list = null, code = null;
  const flush = () => { if (lines.length) out.push(el("p", null, inline(lines.join("\n")))); lines = []; };
  const end = () => { flush(); list = null; };
  for (const line of text.replace(/\r/g, "").split("\n")) {
    const fence = /^\s{0,3}(```+|~~~+)/.exec(line);
    if (code) {
      if (fence && fence[1].startsWith(code.mark)) { out.push(el("pre", { class: "code", tabindex: "0" }, code.lines.join("\n"))); code = null; }
      else code.lines.push(line);
      continue;
    }
    const heading = /^(#{1,4})\s+(.{1,300})$/.exec(line), item = /^(\s{0,12})(?:[-*+]|(\d{1,4})[.)])\s+(.*)$/.exec(line);
    if (fence) { end(); code = { mark: fence[1], lines: [] }; }
    else if (!line.trim()) end();
    else if (heading) { end(); out.push(el("h" + (heading[1].length + 2), null, inline(heading[2]))); }
    else if (item) {
      flush();
      const kind = item[2] ? "ol" : "ul";
      if (!list || list.localName !== kind) out.push(list = el(kind));
      list.append(el("li", { class: item[1].length > 1 ? "deep" : "" }, inline(item[3])));
    } else if (list && /^\s{2,}/.test(line)) list.lastChild.append(" ", ...inline(line.trim()));
    else { list = null; lines.push(line); }
  }
  if (code) out.push(el("pre", { class: "code", tabindex: "0" }, code.lines.join("\n")));
  flush();
  return out;
}

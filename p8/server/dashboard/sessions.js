// Sessions: the list, found by title and by what was said in them.

import { get } from "./api.js";
import { ago, el, marked } from "./dom.js";
import { failed, title } from "./page.js";

export const row = (one) => el("li", null, el("a", { class: "row move", href: "#/session/" + one.id },
  el("span", { class: "title" }, one.pinned ? "★ " : "", one.title || "(nothing said)"),
  el("time", { class: "when", datetime: one.last }, ago(one.last)),
  el("span", { class: "what" }, el("span", { class: "chip " + one.status }, one.status), one.project_name, one.branch ? " ⎇ " + one.branch : "", " · ", one.messages, one.messages === 1 ? " message" : " messages", one.model ? " · " + one.model : "", one.tags.map((tag) => [" ", el("span", { class: "chip tag" }, tag)])),
));

const hit = (one) => el("li", null, el("a", { class: "row move", href: `#/session/${one.session}` + (one.seq ? `?at=${one.seq}` : "") },
  el("span", { class: "title" }, one.title || "(nothing said)"), el("time", { class: "when", datetime: one.time }, ago(one.time)),
  el("span", { class: "what snippet" }, one.role ? one.role + ": " : "", marked(one.snippet, one.marks))));

export async function sessions(root, me) {
  const given = new URLSearchParams(location.hash.split("?")[1] || "");
  const list = el("ul", { class: "rows", "aria-label": "Sessions" }), more = el("div", { class: "bar" });
  const hits = el("div", null), heading = el("h1", null, title("Sessions"));
  const search = el("input", { type: "search", id: "search", placeholder: "Search titles and conversations", "aria-label": "Search", autocomplete: "off", spellcheck: "false", value: given.get("q") || "" });
  const sort = el("select", { "aria-label": "Sort" }, ["recent", "created", "size", "title"].map((name) => el("option", { value: name }, name)));
  const kept = el("select", { "aria-label": "Which" }, [["", "current"], ["archived", "archived"], ["trash", "trash"]].map(([value, name]) => el("option", { value }, name)));
  let turn = 0;

  async function load(after) {
    const mine = ++turn, q = search.value.trim();
    try {
      const page = await get("/sessions", { q, sort: sort.value, [kept.value || "none"]: kept.value ? true : "", after, limit: 50 });
      if (mine !== turn || me.left) return;
      if (!after) list.replaceChildren();
      list.append(...page.items.map(row));
      if (!list.children.length) list.append(el("li", { class: "empty" }, q ? "No title fits." : "No sessions yet. p8 starts one."));
      more.replaceChildren(...(page.next ? [el("button", { onclick: () => load(page.next) }, "More")] : []));
      if (after) return;
      history.replaceState(null, "", "#/sessions" + (q ? "?q=" + encodeURIComponent(q) : ""));
      const found = q ? await get("/search", { q, limit: 20 }) : [];
      if (mine !== turn || me.left) return;
      hits.replaceChildren(...(q ? [el("h2", null, "In conversations"), el("ul", { class: "rows", "aria-label": "In conversations" },
        found.length ? found.map(hit) : el("li", { class: "empty" }, "Nothing found."))] : []));
    } catch (error) { if (mine === turn && !me.left) failed(error); }
  }

  let waiting;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(load, 150); });
  sort.addEventListener("change", () => load());
  kept.addEventListener("change", () => load());
  root.append(heading, el("div", { class: "bar" }, search, sort, kept), list, more, hits);
  await load();
  let soon;
  me.heard = (event) => {
    if (event.kind !== "session" && event.kind !== "message") return;
    clearTimeout(soon);
    soon = setTimeout(() => { if (!document.activeElement?.classList.contains("move")) load(); }, 400);
  };
}

// Sessions: find one, read it, see what it was forked from and into, compare and restore its checkpoints.

import { ask, get } from "./api.js";
import { ago, el, marked } from "./dom.js";
import { confirmed, failed, here, plain, tell } from "./page.js";

export async function sessions(root) {
  const given = new URLSearchParams(location.hash.split("?")[1] || "");
  const list = el("ul", { class: "rows", "aria-label": "Sessions" }), more = el("div", { class: "bar" });
  const hits = el("div", null);
  const search = el("input", { type: "search", id: "search", placeholder: "Search titles and conversations", "aria-label": "Search", autocomplete: "off", spellcheck: "false", value: given.get("q") || "" });
  const sort = el("select", { "aria-label": "Sort" }, ["recent", "created", "size", "title"].map((name) => el("option", { value: name }, name)));
  const kept = el("select", { "aria-label": "Which" }, [["", "current"], ["archived", "archived"], ["trash", "trash"]].map(([value, name]) => el("option", { value }, name)));
  let turn = 0;

  const rows = (found) => found.map((one) => el("li", null, el("a", { class: "row move", href: "#/session/" + one.id },
    el("span", { class: "title" }, one.pinned ? "★ " : "", one.title || "(nothing said)"),
    el("span", { class: "when" }, ago(one.last)),
    el("span", { class: "what" }, el("span", { class: "chip " + one.status }, one.status), one.project_name, one.branch ? " ⎇ " + one.branch : "", " · ", one.messages, one.messages === 1 ? " message" : " messages", one.model ? " · " + one.model : "", one.tags.map((tag) => [" ", el("span", { class: "chip" }, tag)])),
  )));

  async function load(after) {
    const mine = ++turn, q = search.value.trim();
    try {
      const page = await get("/sessions", { q, sort: sort.value, [kept.value || "none"]: kept.value ? true : "", after, limit: 50 });
      if (mine !== turn) return;
      if (!after) list.replaceChildren();
      list.append(...rows(page.items));
      if (!list.children.length) list.append(el("li", { class: "empty" }, q ? "No title fits." : "No sessions yet. p8 starts one."));
      more.replaceChildren(...(page.next ? [el("button", { onclick: () => load(page.next) }, "More")] : []));
      if (after) return;
      const found = q ? await get("/search", { q, limit: 20 }) : [];
      if (mine !== turn) return;
      hits.replaceChildren(...(q ? [el("h2", null, "In conversations"), el("ul", { class: "rows", "aria-label": "In conversations" },
        found.length ? found.map((hit) => el("li", null, el("a", { class: "row move", href: "#/session/" + hit.session },
          el("span", { class: "title" }, hit.title || "(nothing said)"), el("span", { class: "when" }, ago(hit.time)),
          el("span", { class: "what" }, hit.role ? hit.role + ": " : "", marked(hit.snippet, hit.marks))))) : el("li", { class: "empty" }, "Nothing found."))] : []));
    } catch (error) { if (mine === turn) failed(error); }
  }

  let waiting;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(load, 150); });
  sort.addEventListener("change", () => load());
  kept.addEventListener("change", () => load());
  root.append(el("h1", null, "Sessions"), el("div", { class: "bar" }, search, sort, kept), list, more, hits);
  await load();
  let soon;
  here.heard = (event) => {
    if (event.kind !== "session" && event.kind !== "message") return;
    clearTimeout(soon);
    soon = setTimeout(() => { if (!document.activeElement?.classList.contains("move")) load(); }, 400);
  };
}

function entry(one) {
  const what = one.kind;
  const by = [what === "message" ? one.role : what, one.model && what === "message" ? " · " + one.model : "", " · ", ago(one.time)];
  const box = (kind, text) => el("article", { class: "entry " + kind, "data-seq": one.seq }, el("div", { class: "who" }, by), el("pre", null, text));
  const small = (text) => el("div", { class: "entry small", "data-seq": one.seq }, text, " · ", ago(one.time));
  if (what === "message") return box(one.role === "user" ? "user" : "assistant", [plain(one.content), one.error ? `\n(${plain(one.error)})` : "", one.cancelled ? "\n(cancelled)" : "", one.preview ? " …" : ""]);
  if (what === "execution") return box("execution", `$ ${plain(one.command)}${one.exit_code ? `  [exit ${one.exit_code}]` : ""}\n${plain(one.output)}`);
  if (what === "command") return plain(one.command).startsWith("/") ? small(plain(one.command)) : null;
  if (what === "checkpoint") return el("div", { class: "entry checkpoint", "data-seq": one.seq }, "◆ ", plain(one.name), " · ", ago(one.time));
  if (what === "part" && one.part === "tool") return small(`⚙ ${plain(one.title || one.id)}  ${plain(one.status)}`);
  if (what === "part" && one.part === "permission") return small(`? ${plain(one.title)}  ${plain(one.answer)}`);
  if (what === "event" && one.text) return small(plain(one.text));
  return null;
}

export async function session(root, id) {
  const row = await get("/sessions/" + id);
  const talk = el("div", { "aria-label": "Transcript" }), earlier = el("div", { class: "bar" });
  const marks = el("div", null), tree = el("ul", { class: "tree" });
  const title = el("h1", { tabindex: "-1" }, row.title || "(nothing said)");
  const path = "/api/v1/sessions/" + id;
  const change = (body, said) => async () => {
    try {
      Object.assign(row, await ask("PATCH", path, body()));
      title.textContent = row.title;
      tell(said);
    } catch (error) { failed(error); }
  };
  const rename = async () => {
    const name = el("input", { value: row.title, "aria-label": "Title", id: "rename" });
    if (await confirmed("Rename", [name], "Rename") && name.value.trim()) await change(() => ({ title: name.value.trim() }), "Renamed")();
  };
  const trash = async () => {
    if (!(await confirmed("Put this session into the trash?", [el("p", null, row.title)], "To the trash"))) return;
    try { await ask("DELETE", path); location.hash = "#/sessions"; } catch (error) { failed(error); }
  };
  const facts = [["status", row.status], ["project", row.project_name], ["directory", row.directory], ["branch", row.branch],
    ["model", row.model], ["begun", row.created.slice(0, 16).replace("T", " ")], ["messages", row.messages], ["commands", `${row.commands} typed, ${row.executions} run`],
    ["tokens", `${row.tokens_in} in, ${row.tokens_out} out`], ["cost", row.cost ? "$" + row.cost.toFixed(4) : ""], ["tags", row.tags.join(" ")], ["id", row.id]];

  async function load(before) {
    const page = await get(`/sessions/${id}/entries`, { limit: 100, before });
    talk.prepend(...page.items.map(entry).filter(Boolean));
    earlier.replaceChildren(...(page.next ? [el("button", { onclick: () => load(page.next).catch(failed) }, "Earlier")] : []));
    return page.items.length ? page.items[page.items.length - 1].seq : 0;
  }

  root.append(el("div", { class: "two" },
    el("section", null, title, el("div", { class: "bar" },
      el("button", { onclick: rename }, "Rename"), el("button", { onclick: change(() => ({ pinned: !row.pinned }), "Done") }, "Pin"),
      el("button", { onclick: change(() => ({ archived: !row.archived }), "Done") }, "Archive"), el("button", { class: "bad", onclick: trash }, "Trash")),
      earlier, talk),
    el("aside", null, el("div", { class: "card" }, el("dl", null, facts.filter(([, value]) => value !== "" && value !== undefined).map(([name, value]) => [el("dt", null, name), el("dd", null, value)]))),
      el("h2", null, "Forks"), el("div", { class: "card" }, tree), el("h2", null, "Checkpoints"), marks)));
  let seen = await load();
  await Promise.all([forks(tree, row), checkpoints(marks, id)].map((one) => one.catch(failed)));
  here.heard = async (event) => {
    if (event.stream !== id || event.seq <= seen) return;
    seen = event.seq;
    const node = entry({ ...event.data, stream: event.stream, seq: event.seq, time: event.time, kind: event.kind });
    if (node) talk.append(node);
    if (event.kind === "checkpoint") checkpoints(marks, id).catch(failed);
  };
}

async function forks(tree, row) {
  const line = [row];
  while (line[0].parent && line.length < 12) {
    try { line.unshift(await get("/sessions/" + line[0].parent)); } catch { break; }
  }
  const children = await Promise.all(row.forks.slice(0, 20).map((id) => get("/sessions/" + id).catch(() => null)));
  const name = (one, mine) => mine ? el("span", { class: "here" }, one.title || one.id) : el("a", { href: "#/session/" + one.id }, one.title || one.id);
  let at = tree;
  for (const one of line) {
    const item = el("li", null, name(one, one === row), one.fork_seq ? el("span", { class: "dim" }, " from entry ", one.fork_seq) : "");
    at.append(item);
    if (one !== row || children.length) { const next = el("ul", { class: "tree" }); item.append(next); at = next; }
  }
  at.append(...children.filter(Boolean).map((one) => el("li", null, name(one, false), el("span", { class: "dim" }, " from entry ", one.fork_seq))));
}

async function checkpoints(box, id) {
  const found = await get("/checkpoints", { session: id });
  box.replaceChildren(found.length ? el("ul", { class: "rows", "aria-label": "Checkpoints" }, found.map((one) => el("li", { class: "row" },
    el("span", { class: "title" }, "◆ ", one.name), el("span", { class: "when" }, ago(one.created)),
    el("span", { class: "what" }, one.git.branch || "no repository", " ", (one.git.commit || "").slice(0, 10)),
    el("span", { class: "bar" }, el("button", { onclick: () => diff(one).catch(failed) }, "Diff"), el("button", { onclick: () => restore(one).catch(failed) }, "Restore")))))
    : el("p", { class: "dim" }, "None."));
}

async function diff(one) {
  const found = await get(`/checkpoints/${one.id}/diff`);
  const files = found.files.map((file) => el("div", { class: "mono " + (file.what.startsWith("del") ? "del" : file.what.startsWith("add") || file.what === "new" ? "add" : "") }, file.what, "  ", file.path));
  await confirmed(`◆ ${one.name} → now`, [el("div", { class: "list" }, found.git.map((line) => el("div", null, line)), files.length ? files : el("p", { class: "dim" }, "No file differs."))], "");
}

// Restoring: what would happen is shown first; what is done is exactly that, or nothing.
async function restore(one) {
  const path = `/api/v1/checkpoints/${one.id}/restore`;
  let everything = false;
  for (;;) {
    const plan = await ask("POST", path, { everything });
    const line = (action) => el("div", { class: "mono " + (action.what === "delete" ? "del" : "add") }, action.what, "  ", action.path);
    const kept = plan.skipped.map((file) => el("div", { class: "mono dim" }, file.path, "  ", file.reason));
    const said = plan.actions.length ? `${plan.actions.length} files would be changed. How they are now is kept, and can be brought back.` : kept.length ? "Nothing would be changed." : "Nothing to do: the files are as they were then.";
    const answer = await confirmed(`Restore the files of ◆ ${one.name}`, [el("p", null, said), el("div", { class: "list", tabindex: "0" }, plan.actions.map(line), kept.length ? [el("p", { class: "dim" }, `${kept.length} kept as they are, as something else than P8 changed them:`), kept] : "")],
      plan.actions.length ? "Restore" : "", kept.length && !everything ? "Include those kept" : "");
    if (answer === "other") { everything = true; continue; }
    if (!answer) return;
    const done = await ask("POST", path, { everything, plan: plan.plan });
    const undo = el("button", { onclick: async () => { try { await ask("POST", `/api/v1/checkpoints/${one.id}/undo`, {}); tell("The restore is taken back."); } catch (error) { failed(error); } } }, "Undo");
    tell(`${done.changed.length} files restored. `, undo);
    return;
  }
}

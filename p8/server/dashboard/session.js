// One session: read it, talk in it, see what it was forked from and into, what it cost, its checkpoints and handoffs.

import { ask, get, post } from "./api.js";
import { checkpoints } from "./checkpoints.js";
import { composer } from "./compose.js";
import { ago, button, count, el, facts, part } from "./dom.js";
import { rendered } from "./markdown.js";
import { confirmed, failed, plain, tell, title as named } from "./page.js";
import { lines } from "./plots.js";

const PAGES = 40; // so many pages back an entry is looked for

function entry(one) {
  const what = one.kind;
  const by = [el("b", null, what === "message" ? one.role : what === "execution" ? "ran" : what), one.model && what === "message" ? " · " + one.model : "", " · ", el("time", { datetime: one.time, title: one.time }, ago(one.time))];
  const box = (kind, ...text) => el("article", { class: "entry move " + kind, tabindex: "-1", "data-seq": one.seq }, el("div", { class: "who" }, by), text);
  const small = (text) => el("div", { class: "entry small", "data-seq": one.seq }, text, " · ", ago(one.time));
  if (what === "message") {
    const text = plain(one.content), said = one.role === "assistant" ? el("div", { class: "text" }, rendered(text)) : el("pre", null, text);
    const end = [one.preview ? " …" : "", one.error ? el("p", { class: "alert" }, `(${plain(one.error)})`) : "", one.cancelled ? el("p", { class: "dim" }, "(stopped)") : ""];
    return box(one.role === "user" ? "user" : one.role === "assistant" ? "assistant" : "system", said, end);
  }
  if (what === "execution") return box("execution" + (one.exit_code ? " failed" : ""), el("pre", { tabindex: "0" }, el("b", null, "$ ", plain(one.command)), one.exit_code ? `  [exit ${one.exit_code}]` : "", "\n", plain(one.output)));
  if (what === "command") return plain(one.command).startsWith("/") ? small(plain(one.command)) : null;
  if (what === "checkpoint") return el("div", { class: "entry checkpoint", "data-seq": one.seq }, "◆ ", plain(one.name), " · ", ago(one.time));
  if (what === "part" && one.part === "tool") return small(`⚙ ${plain(one.title || one.id)}  ${plain(one.status)}`);
  if (what === "part" && one.part === "permission") return small(`? ${plain(one.title)}  ${plain(one.answer)}`);
  if (what === "event" && one.what === "handoff") return small("→ a handoff was written");
  if (what === "event" && one.text) return small(plain(one.text));
  return null;
}

export async function session(root, me, id) {
  const early = [];
  me.heard = (event) => early.push(event);
  const row = await get("/sessions/" + id);
  if (me.left) return;
  const wanted = new URLSearchParams(location.hash.split("?")[1] || "").get("at");
  const talk = el("div", { id: "talk", "aria-label": "Transcript" }), earlier = el("div", { class: "bar" });
  const marks = el("div", null), notes = el("div", null), work = el("div", null), tree = el("ul", { class: "tree" }), about = el("div", { class: "card" });
  const title = el("h1", { tabindex: "-1" }), chips = el("p", { class: "chips" });
  const path = "/api/v1/sessions/" + id;

  function draw() {
    title.textContent = named(row.title || "(nothing said)");
    chips.replaceChildren(el("span", { class: "chip " + row.status }, row.status), row.pinned ? el("span", { class: "chip" }, "★ pinned") : "", row.archived ? el("span", { class: "chip" }, "archived") : "",
      row.trashed ? el("span", { class: "chip error" }, "in the trash") : "", ...row.tags.map((tag) => el("span", { class: "chip tag" }, tag)));
    about.replaceChildren(facts([["project", row.project ? el("a", { href: "#/project/" + row.project }, row.project_name) : row.project_name], ["directory", row.directory], ["branch", row.branch], ["model", row.model],
      ["begun", row.created.slice(0, 16).replace("T", " ")], ["messages", count(row.messages)], ["commands", `${count(row.commands)} typed, ${count(row.executions)} run`],
      ["tokens", `${count(row.tokens_in)} in, ${count(row.tokens_out)} out`], ["cost", row.cost ? "$" + row.cost.toFixed(4) : ""], ["id", el("span", { class: "mono" }, row.id)]]));
    actions.replaceChildren(button("Rename", rename), button(row.pinned ? "Unpin" : "Pin", change(() => ({ pinned: !row.pinned }))),
      button(row.archived ? "Unarchive" : "Archive", change(() => ({ archived: !row.archived }))), button("Fork", fork), button("Checkpoint", mark), button("Hand off", handoff),
      button("Trash", trash, "bad"));
  }
  const actions = el("div", { class: "bar", role: "toolbar", "aria-label": "Session" });
  const tried = (act) => async () => { try { await act(); } catch (error) { failed(error); } };
  const change = (body) => tried(async () => { Object.assign(row, await ask("PATCH", path, body())); draw(); tell("Done."); });
  const rename = tried(async () => {
    const name = el("input", { value: row.title, "aria-label": "Title", id: "rename" });
    if (await confirmed("Rename", [name], "Rename") && name.value.trim()) await change(() => ({ title: name.value.trim() }))();
  });
  const trash = tried(async () => {
    if (!(await confirmed("Put this session into the trash?", [el("p", null, row.title)], "To the trash"))) return;
    await ask("DELETE", path);
    location.hash = "#/sessions";
  });
  const fork = tried(async () => { location.hash = "#/session/" + (await post(`/sessions/${id}/fork`)).id; });
  const mark = tried(async () => {
    const name = el("input", { "aria-label": "Name", placeholder: "what is this place?", maxlength: 200 });
    if (!(await confirmed("Make a checkpoint", [name], "Make it"))) return;
    const made = await post(`/sessions/${id}/checkpoints`, { name: name.value.trim() });
    tell("◆ ", made.name);
    await checkpoints(marks, id);
  });
  const handoff = tried(async () => {
    const made = await post("/handoffs", { session: id });
    await handoffs(notes, id);
    await read(made);
  });

  async function load(before) {
    const page = await get(`/sessions/${id}/entries`, { limit: 100, before });
    talk.prepend(...page.items.map(entry).filter(Boolean));
    earlier.replaceChildren(...(page.next ? [button("Earlier", () => load(page.next).catch(failed))] : []));
    return page;
  }

  const say = composer(id, row);
  me.leave = say.close;
  draw();
  root.append(el("div", { class: "two" }, el("section", null, title, chips, actions, earlier, talk, say.answer, say.node),
    el("aside", null, about, work, part("Forks", el("div", { class: "card" }, tree)), part("Checkpoints", marks), notes)));
  let page = await load(), seen = Math.max(0, ...page.items.filter((one) => one.stream === id).map((one) => one.seq));
  for (let n = 0; wanted && n < PAGES && page.next && !talk.querySelector(`[data-seq="${CSS.escape(wanted)}"]`); n++) page = await load(page.next);
  me.heard = (event) => {
    if (event.stream !== id || event.seq <= seen) return;
    seen = event.seq;
    const node = entry({ ...event.data, stream: event.stream, seq: event.seq, time: event.time, kind: event.kind });
    say.keep(() => { if (node) talk.append(node); if (event.kind === "message" && event.data.role === "assistant") say.settled(); });
    if (event.kind === "checkpoint") checkpoints(marks, id).catch(failed);
    if (event.kind === "session") get("/sessions/" + id).then((found) => { Object.assign(row, found); draw(); }).catch(() => {});
  };
  early.forEach((event) => me.heard(event));
  await Promise.all([forks(tree, row), checkpoints(marks, id), handoffs(notes, id)].map((one) => one.catch(failed)));
  figures(work, id).catch(() => {});
  const found = wanted && talk.querySelector(`[data-seq="${CSS.escape(wanted)}"]`);
  if (found) { found.classList.add("found"); found.scrollIntoView({ block: "center" }); found.focus({ preventScroll: true }); }
  else if (!me.left) say.end();
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

const read = (one) => confirmed(one.title ? `Handoff: ${one.title}` : "Handoff", [el("div", { class: "list text", tabindex: "0" }, rendered(one.text))], "");

async function handoffs(box, id) {
  const found = await get("/handoffs", { session: id });
  const open = (one) => async () => { try { await read(await get("/handoffs/" + one.id)); } catch (error) { failed(error); } };
  box.replaceChildren(...(found.length ? part("Handoffs", el("ul", { class: "rows", "aria-label": "Handoffs" }, found.slice(0, 5).map((one) => el("li", { class: "row" },
    el("span", { class: "title" }, ago(one.created), " ago"), button("Read", open(one)))))) : []));
}

const hours = (found) => found === null || found === undefined ? "" : found < 2 ? Math.round(found * 60) + " min" : found.toFixed(1) + " h";

async function figures(box, id) {
  const found = await get("/metrics", { session: id }), score = (value) => value === null || value === undefined ? "" : Math.round(value) + " of 100";
  const made = found.whole.lines;
  box.replaceChildren(...part("Work", el("div", { class: "card" }, facts([
    ["worked", hours(found.whole.active_h)], ["lines", made ? `+${count(made.lines + made.tests + made.docs)} −${count(made.removed)}` : ""],
    ["velocity", found.whole.lines_per_h ? Math.round(found.whole.lines_per_h) + " lines an hour" : ""], ["commits", found.commits || ""],
    ["tests", found.tests ? `${found.tests.passed} of ${found.tests.total} passed` : ""], ["coverage", found.coverage ? found.coverage.percent.toFixed(1) + " %" : ""],
    ["completion", found.completion === null ? "" : Math.round(found.completion * 100) + " %"], ["left", hours(found.time_left_h)],
    ["efficiency", score(found.efficiency)], ["context", score(found.context_efficiency)], ["quality", score(found.quality)],
  ]), found.burndown && found.burndown.left.length > 1 ? lines("Burndown: tokens left of the plan", found.burndown.left.map((_, n) => n ? "turn " + n : "start"), [["left", found.burndown.left], ["even", found.burndown.ideal]]) : "")));
}

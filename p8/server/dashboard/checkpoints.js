// Checkpoints of a session: compare one with how things are, and bring its files back, as it was shown before.

import { get, post } from "./api.js";
import { ago, button, el } from "./dom.js";
import { confirmed, failed, tell } from "./page.js";

export async function checkpoints(box, id) {
  const found = await get("/checkpoints", { session: id });
  const act = (name, what, one) => button(name, () => what(one).catch(failed));
  box.replaceChildren(found.length ? el("ul", { class: "rows", "aria-label": "Checkpoints" }, found.map((one) => el("li", { class: "row" },
    el("span", { class: "title", title: one.name }, "◆ ", one.name), el("time", { class: "when", datetime: one.created }, ago(one.created)),
    el("span", { class: "what" }, one.git.branch || "no repository", " ", (one.git.commit || "").slice(0, 10)),
    el("span", { class: "bar wide" }, act("Diff", diff, one), act("Restore", restore, one)))))
    : el("p", { class: "dim" }, "None yet."));
}

const kinds = { "+": "add", "-": "del", "@": "dim", d: "head" };

async function diff(one) {
  const found = await get(`/checkpoints/${one.id}/diff`, { patch: true });
  const files = found.files.map((file) => el("div", { class: "mono " + (file.what.startsWith("del") ? "del" : file.what.startsWith("add") || file.what === "new" ? "add" : "") }, file.what, "  ", file.path));
  const patch = (found.patch || "").split("\n").slice(0, 3000).map((line) => el("span", { class: /^(\+\+\+|---|index|new|old|deleted)/.test(line) ? "dim" : kinds[line[0]] || "" }, line + "\n"));
  await confirmed(`◆ ${one.name} → now`, [found.git.map((line) => el("div", null, line)), el("div", null, files.length ? files : el("p", { class: "dim" }, "No file differs.")),
    found.patch ? el("pre", { class: "code patch list", tabindex: "0", "aria-label": "What changed" }, patch) : ""], "");
}

// Restoring: what would happen is shown first; what is done is exactly that, or nothing.
async function restore(one) {
  const path = `/checkpoints/${one.id}/restore`;
  let everything = false;
  for (;;) {
    const plan = await post(path, { everything });
    const line = (action) => el("div", { class: "mono " + (action.what === "delete" ? "del" : "add") }, action.what, "  ", action.path);
    const kept = plan.skipped.map((file) => el("div", { class: "mono dim" }, file.path, "  ", file.reason));
    const said = plan.actions.length ? `${plan.actions.length} files would be changed. How they are now is kept, and can be brought back.` : kept.length ? "Nothing would be changed." : "Nothing to do: the files are as they were then.";
    const answer = await confirmed(`Restore the files of ◆ ${one.name}`, [el("p", null, said), el("div", { class: "list", tabindex: "0" }, plan.actions.map(line), kept.length ? [el("p", { class: "dim" }, `${kept.length} kept as they are, as something else than P8 changed them:`), kept] : "")],
      plan.actions.length ? "Restore" : "", kept.length && !everything ? "Include those kept" : "");
    if (answer === "other") { everything = true; continue; }
    if (!answer) return;
    const done = await post(path, { everything, plan: plan.plan });
    const undo = button("Undo", async () => { try { await post(`/checkpoints/${one.id}/undo`); tell("The restore is taken back."); } catch (error) { failed(error); } });
    tell(`${done.changed.length} files restored. `, undo);
    undo.focus();
    return;
  }
}

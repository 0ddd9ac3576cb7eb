// Projects: which there are; one with its sessions and quick actions, which are done from here.

import { ask, get, post } from "./api.js";
import { ago, button, count, el, facts, part, size } from "./dom.js";
import { confirmed, failed, plain, tell, title } from "./page.js";
import { row as sessionRow } from "./sessions.js";

export async function projects(root, me) {
  const found = await get("/projects");
  root.append(el("h1", null, title("Projects")), el("ul", { class: "rows", "aria-label": "Projects" }, found.length ? found.map((one) => el("li", null, el("a", { class: "row move", href: "#/project/" + one.project_id },
    el("span", { class: "title" }, one.pinned ? "★ " : "", one.name || one.project_id), el("time", { class: "when", datetime: one.last_accessed }, ago(one.last_accessed)),
    el("span", { class: "what" }, count(one.statistics.sessions), " sessions · ", plain(one.root || one.workspace), one.tags.map((tag) => [" ", el("span", { class: "chip tag" }, tag)]), one.description ? " · " + one.description : "")))) : el("li", { class: "empty" }, "No projects yet.")));
}

export async function project(root, me, id) {
  const path = "/projects/" + id, one = await get(path);
  const list = el("ul", { class: "rows", "aria-label": "Sessions" }), actions = el("div", null), bar = el("div", { class: "bar", role: "toolbar", "aria-label": "Project" });
  const tried = (act) => async () => { try { await act(); } catch (error) { failed(error); } };
  let pinned = one.pinned;

  const tools = () => bar.replaceChildren(
    button("New session", tried(async () => {
      const words = el("input", { "aria-label": "Title", placeholder: "its title" });
      if (await confirmed("Begin a session", [words], "Begin")) location.hash = "#/session/" + (await post(path + "/sessions", { title: words.value.trim() })).id;
    }), "go"),
    button(pinned ? "Unpin" : "Pin", tried(async () => { await post(path + (pinned ? "/unpin" : "/pin")); pinned = !pinned; tools(); tell("Done."); })),
    button("Keep for longer", tried(async () => { await post(path + "/extend"); tell("It is kept for longer without use."); })));
  tools();

  const sums = one.statistics;
  root.append(el("h1", null, title(one.name || id)), bar, el("div", { class: "two" },
    el("section", null, part("Sessions", list)),
    el("aside", null, el("div", { class: "card" }, facts([["id", el("span", { class: "mono" }, id)], ["where", plain(one.root)], ["remote", plain(one.remote)], ["about", one.description],
      ["messages", count(sums.messages)], ["tokens", count(sums.tokens_in + sums.tokens_out)], ["size", sums.size_bytes ? size(sums.size_bytes) : ""]])), actions)));
  const [page, known] = await Promise.all([get(path + "/sessions", { limit: 100 }), get("/actions", { project: id }).catch((error) => { failed(error); return []; })]);
  list.append(...page.items.map(sessionRow));
  if (!page.items.length) list.append(el("li", { class: "empty" }, "No sessions yet."));
  actions.append(...part("Quick actions", el("ul", { class: "rows", "aria-label": "Quick actions" }, known.filter((action) => !action.run.some((line) => line.startsWith("/"))).map((action) => el("li", { class: "row" },
    el("span", { class: "title" }, action.action), button("Do", () => run(action, id).catch(failed)), el("span", { class: "what wide" }, action.help || action.run.join("; ")))))));
}

// Asks for the parameters, shows what would be done, does it, and shows what came of it.
async function run(action, project) {
  const fields = Object.entries(action.parameters).map(([name, one]) => [name, one.choices.length || one.type === "bool"
    ? el("select", { "aria-label": name }, (one.choices.length ? one.choices : ["true", "false"]).map((value) => el("option", { value, selected: value === String(one.default) }, value)))
    : el("input", { "aria-label": name, value: one.default ?? "", required: one.required, placeholder: one.help || one.type })]);
  const rows = fields.map(([name, field]) => el("label", { class: "field" }, el("span", null, name), field));
  const said = [action.help ? el("p", null, action.help) : "", el("pre", { class: "code" }, action.run.join("\n")), rows];
  if (!(await confirmed(`Do ${action.action}`, said, "Do it"))) return;
  const values = Object.fromEntries(fields.filter(([, field]) => field.value !== "").map(([name, field]) => [name, field.value]));
  const body = { values, project };
  tell(`${action.action} is being done …`);
  let done;
  try { done = await post(`/actions/${action.action}/run`, body); } catch (error) {
    if (error.status !== 409 || !error.hint.includes("trust")) throw error;
    if (!(await confirmed("It came with the project", [el("p", null, error.message)], "Trust it and do it"))) return;
    done = await post(`/actions/${action.action}/run`, { ...body, trust: true });
  }
  tell(`${action.action}: exit ${done.exit_code}. `, el("a", { href: "#/session/" + done.session }, "Its session"));
  await confirmed(`${action.action}: exit ${done.exit_code}`, done.runs.map((one) => el("pre", { class: "code list", tabindex: "0" }, `$ ${one.line}\n${plain(one.output ?? one.data)}`)), "");
}

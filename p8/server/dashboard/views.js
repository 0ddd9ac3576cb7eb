// Instances, projects, usage and events.

import { ask, get } from "./api.js";
import { ago, bars, el, table } from "./dom.js";
import { confirmed, failed, here, plain, tell } from "./page.js";

const size = (bytes) => bytes === undefined ? "-" : bytes > 1 << 30 ? (bytes / (1 << 30)).toFixed(1) + " GiB" : (bytes / (1 << 20)).toFixed(0) + " MiB";

export async function instances(root) {
  const box = el("div", null), mode = el("input", { placeholder: "mode: shell, claude, …", value: "shell", "aria-label": "Mode" });
  const project = el("input", { placeholder: "project or directory", value: ".", "aria-label": "Project" });
  const act = (name, method, path, body) => async () => {
    try { await ask(method, path, body); tell(name, ": done"); await load(); } catch (error) { failed(error); }
  };
  const logs = (one) => async () => {
    try {
      const found = await get(`/instances/${one.id}/logs`, { tail: 200 });
      await confirmed(`Log of ${one.id}`, [el("pre", { class: "code list", tabindex: "0" }, found.log.join("\n") || "Nothing yet.")], "");
    } catch (error) { failed(error); }
  };
  async function load() {
    const found = await get("/instances");
    let used = [];
    if (found.some((one) => one.status === "running")) used = await get("/resources").catch(() => []);
    const of = Object.fromEntries(used.map((one) => [one.id, one]));
    const path = (one) => "/api/v1/instances/" + one.id;
    const rows = found.map((one) => [one.id, el("span", { class: "chip " + one.status }, one.status), plain(one.health) || "-",
      of[one.id]?.cpu_percent === undefined ? "-" : of[one.id].cpu_percent.toFixed(1) + " %", size(of[one.id]?.memory_bytes),
      [el("button", { onclick: logs(one) }, "Log"), " ", one.status === "running"
        ? [el("button", { onclick: act(one.id, "POST", path(one) + "/restart", {}) }, "Restart"), " ", el("button", { class: "bad", onclick: act(one.id, "DELETE", path(one)) }, "Stop")]
        : el("button", { onclick: act(one.id, "POST", path(one) + "/restart", {}) }, "Start")]]);
    if (!box.contains(document.activeElement)) box.replaceChildren(table([["Instance", ""], ["Status", ""], ["Health", ""], ["CPU", "num"], ["Memory", "num"], ["", ""]], rows, "No instances. Start one below, or: ai-session start PROJECT MODE"));
  }
  root.append(el("h1", null, "Instances"), box, el("h2", null, "Start one"), el("div", { class: "bar" }, project, mode,
    el("button", { class: "go", onclick: () => act("start", "POST", "/api/v1/instances", { project: project.value, mode: mode.value })() }, "Start")));
  await load();
  const timer = setInterval(() => { if (!document.hidden) load().catch(() => {}); }, 3000);
  here.leave = () => clearInterval(timer);
}

export async function projects(root, offers) {
  root.append(el("h1", null, "Projects"));
  if (offers.includes("GET /api/v1/projects")) {
    const found = await get("/projects");
    const name = (one) => el("a", { class: "move", href: "#/sessions?q=" + encodeURIComponent(one.name || one.id) }, one.pinned ? "★ " : "", one.name || one.id);
    root.append(table([["Project", ""], ["Id", "mono"], ["Directory", "mono"]], found.map((one) => [name(one), one.id, plain(one.root || one.workspace)]), "No projects yet."));
    return;
  }
  const found = new Map();
  for (const one of (await get("/sessions", { limit: 500 })).items) {
    const key = one.project || one.project_name, sum = found.get(key) || { name: one.project_name || key, sessions: 0, messages: 0, last: one.last, directory: one.directory };
    sum.sessions += 1; sum.messages += one.messages;
    if (one.last > sum.last) sum.last = one.last;
    found.set(key, sum);
  }
  const rows = [...found.values()].sort((a, b) => (a.last < b.last ? 1 : -1)).map((one) => [el("a", { class: "move", href: "#/sessions?q=" + encodeURIComponent(one.name) }, one.name), one.sessions, one.messages, ago(one.last), one.directory]);
  root.append(table([["Project", ""], ["Sessions", "num"], ["Messages", "num"], ["Last", "num"], ["Directory", "mono"]], rows, "No projects yet."));
}

export async function usage(root, offers) {
  const found = (await get("/sessions", { limit: 500 })).items;
  const days = new Map();
  for (let n = 13; n >= 0; n--) days.set(new Date(Date.now() - n * 864e5).toISOString().slice(0, 10), { messages: 0, commands: 0, tokens_in: 0, tokens_out: 0 });
  const sum = { sessions: found.length, messages: 0, tokens_in: 0, tokens_out: 0, cost: 0 };
  for (const one of found) {
    sum.messages += one.messages; sum.tokens_in += one.tokens_in; sum.tokens_out += one.tokens_out; sum.cost += one.cost;
    const day = days.get(one.last.slice(0, 10));
    if (day) for (const name of ["messages", "tokens_in", "tokens_out"]) day[name] += one[name];
    if (day) day.commands += one.commands + one.executions;
  }
  const plot = (a, b) => bars([...days].map(([name, one]) => ({ name, values: [one[a], one[b]] })), [a.replace("_", " "), b.replace("_", " ")]);
  const figure = (name, value) => el("div", { class: "card" }, el("b", null, value), el("span", { class: "dim" }, name));
  root.append(el("h1", null, "Usage"), el("div", { class: "figures" }, figure("sessions, the newest", sum.sessions), figure("messages", sum.messages.toLocaleString()),
    figure("tokens in", sum.tokens_in.toLocaleString()), figure("tokens out", sum.tokens_out.toLocaleString()), figure("cost", "$" + sum.cost.toFixed(2))),
    el("h2", null, "Messages and commands, by the day of the session's last activity"), el("div", { class: "card" }, plot("messages", "commands")),
    el("h2", null, "Tokens in and out"), el("div", { class: "card" }, plot("tokens_in", "tokens_out")));
  if (!offers.includes("GET /api/v1/metrics")) return;
  const metrics = await get("/metrics").catch(() => null);
  if (metrics) root.append(el("h2", null, "Metrics"), el("pre", { class: "code", tabindex: "0" }, JSON.stringify(metrics, null, 2)));
}

export async function events(root) {
  const list = el("ul", { class: "rows", "aria-label": "Events", "aria-live": "off" });
  const kind = el("select", { "aria-label": "Kind" }, ["all", "session", "message", "command", "execution", "checkpoint", "part", "event"].map((name) => el("option", { value: name }, name)));
  const line = (event) => el("li", { hidden: kind.value !== "all" && kind.value !== event.kind, "data-kind": event.kind }, el("a", { class: "row move", href: event.stream.startsWith("~") ? "#/events" : "#/session/" + event.stream },
    el("span", { class: "title" }, el("span", { class: "chip" }, event.kind), plain(event.data.what || event.data.role), " ", plain(event.data.content || event.data.command || event.data.text || event.data.name).slice(0, 200)),
    el("span", { class: "when" }, ago(event.time)), el("span", { class: "what mono" }, event.stream, " ", event.seq)));
  const add = (event) => { const node = line(event); node.hidden = kind.value !== "all" && kind.value !== event.kind; list.prepend(node); while (list.children.length > 500) list.lastChild.remove(); };
  kind.addEventListener("change", () => { for (const node of list.children) node.hidden = kind.value !== "all" && node.dataset.kind !== kind.value; });
  root.append(el("h1", null, "Events"), el("div", { class: "bar" }, kind, el("span", { class: "dim" }, "as they happen, from all processes")), list);
  const newest = (await get("/sessions", { limit: 1 })).items[0];
  if (newest) for (const event of (await get("/events", { session: newest.id, limit: 100 })).items) add(event);
  here.heard = add;
}

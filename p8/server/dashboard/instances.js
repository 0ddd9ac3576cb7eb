// Instances: what they are, what they use from second to second, what they print; started, stopped, frozen from here.

import { ask, get, post } from "./api.js";
import { ago, button, el, size } from "./dom.js";
import { confirmed, failed, plain, tell, title } from "./page.js";
import { spark } from "./plots.js";

const ROOM = 60;
const past = new Map(); // id -> the newest figures, kept while other views are looked at

function noted(id, used) {
  if (used.cpu_percent === undefined) return;
  const of = past.get(id) || { cpu: [], memory: [] };
  of.cpu.push(used.cpu_percent);
  of.memory.push(used.memory_bytes);
  for (const name of ["cpu", "memory"]) of[name].splice(0, of[name].length - ROOM);
  past.set(id, of);
}

async function log(one) {
  const box = el("pre", { class: "code list log", tabindex: "0", "aria-label": "Log" });
  const load = async () => {
    const found = await get(`/instances/${one.id}/logs`, { tail: 300 }), near = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const text = found.log.join("\n") || "Nothing yet.";
    if (box.textContent === text) return;
    box.replaceChildren(el("span", null, text));
    if (near) box.scrollTop = box.scrollHeight;
  };
  await load();
  const timer = setInterval(() => load().catch(() => {}), 1000);
  const closed = confirmed(`Log of ${one.id}`, [box], "");
  box.scrollTop = box.scrollHeight;
  await closed;
  clearInterval(timer);
}

function card(one, act) {
  const status = el("span", { class: "chip" }), health = el("span", { class: "dim" }), buttons = el("div", { class: "bar" }), about = el("p", { class: "dim mono about" });
  const [cpu, drawCpu] = spark(`CPU of ${one.id}`, ROOM), [memory, drawMemory] = spark(`Memory of ${one.id}`, ROOM);
  const figures = { cpu: el("b", { "data-figure": "cpu" }, "–"), memory: el("b", { "data-figure": "memory" }, "–") };
  const node = el("li", { class: "card instance move", tabindex: "-1", "data-id": one.id }, el("div", { class: "head" }, el("h2", null, one.id), status, health), about,
    el("div", { class: "gauges" }, el("div", null, el("span", { class: "dim" }, "CPU "), figures.cpu, cpu), el("div", null, el("span", { class: "dim" }, "Memory "), figures.memory, memory)), buttons);
  let state = "";
  const offered = (now) => [button("Log", () => log(now).catch(failed)),
    ...(now.status === "running" ? [button("Freeze", act(now, "pause")), button("Restart", act(now, "restart")), button("Stop", act(now, "stop"), "bad")]
      : now.status === "paused" ? [button("Let go on", act(now, "resume")), button("Stop", act(now, "stop"), "bad")]
        : [button("Start", act(now, "restart"), "go"), ...(now.status === "error" ? [button("Heal", act(now, "heal"))] : [])])];
  return { node, draw(now, used) {
    status.textContent = now.status;
    status.className = "chip " + now.status;
    const wrong = plain(now.error) || (now.status === "running" && now.health && now.health !== "healthy" ? plain(now.health) : "");
    health.textContent = wrong || (now.status === "running" ? `${plain(now.health)}${now.timestamps?.started ? " · up " + ago(now.timestamps.started) : ""}` : "");
    health.className = wrong ? "alert" : "dim";
    about.textContent = [now.mode, now.port ? "127.0.0.1:" + now.port : "", now.project_path, now.restarts ? now.restarts + " restarts" : ""].filter(Boolean).join("  ·  ");
    if (state !== now.status) {
      const name = node.contains(document.activeElement) && document.activeElement !== node;
      buttons.replaceChildren(...offered(now));
      state = now.status;
      if (name) buttons.querySelector("button")?.focus();
    }
    const of = now.status === "running" && past.get(now.id);
    figures.cpu.textContent = of && used?.cpu_percent !== undefined ? used.cpu_percent.toFixed(1) + " %" : "–";
    figures.memory.textContent = of && used?.memory_bytes !== undefined ? `${size(used.memory_bytes)} of ${size(used.memory_limit)}` : "–";
    drawCpu(of ? of.cpu : [], 10);
    drawMemory(of ? of.memory : [], of ? Math.max(...of.memory) * 1.3 : 1);
  } };
}

export async function instances(root, me) {
  const list = el("ul", { class: "cards", "aria-label": "Instances" }), empty = el("p", { class: "empty" }, "No instances. Start one below, or: ai-session start PROJECT MODE");
  const mode = el("input", { value: "shell", "aria-label": "Mode", placeholder: "shell, claude, gemini, codex, …", id: "mode" });
  const project = el("input", { value: ".", "aria-label": "Project", placeholder: "project or directory", id: "project" });
  const start = el("form", { class: "bar" }, project, mode, el("button", { class: "go", type: "submit" }, "Start"));
  const cards = new Map();
  let known = [];

  const act = (one, what) => async () => {
    const path = "/api/v1/instances/" + one.id;
    try {
      tell(`${one.id}: ${what} …`);
      await (what === "stop" ? ask("DELETE", path) : ask("POST", `${path}/${what}`, {}));
      tell(`${one.id}: ${what} done.`);
      await load();
    } catch (error) { failed(error); }
  };
  start.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      tell("Starting …");
      tell((await post("/instances", { project: project.value, mode: mode.value })).id, " is up.");
      await load();
    } catch (error) { failed(error); }
  });

  const draw = (used) => {
    const of = Object.fromEntries(used.map((one) => [one.id, one]));
    for (const one of known) cards.get(one.id).draw(one, of[one.id]);
  };
  async function load() {
    known = await get("/instances");
    if (me.left) return;
    for (const one of known) if (!cards.has(one.id)) { cards.set(one.id, card(one, act)); list.append(cards.get(one.id).node); }
    for (const [id, made] of cards) if (!known.some((one) => one.id === id)) { made.node.remove(); cards.delete(id); }
    empty.hidden = known.length > 0;
    if (!known.some((one) => one.status === "running")) draw([]);
  }
  async function measure() {
    if (document.hidden || !known.some((one) => one.status === "running")) return;
    const used = await get("/resources");
    used.forEach((one) => noted(one.id, one));
    if (!me.left) draw(used);
  }
  const again = async (work, every) => { while (!me.left) { await work().catch(() => {}); await new Promise((done) => setTimeout(done, every)); } };

  root.append(el("h1", null, title("Instances")), empty, list, el("h2", null, "Start one"), start);
  await load();
  draw([]);
  me.heard = (event) => { if (event.kind === "event" && event.data.instance) load().catch(() => {}); };
  again(measure, 1000);
  again(load, 4000);
}

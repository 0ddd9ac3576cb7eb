// The page: log in by the link, show a view, move by keys, follow what happens.

import { follow, get, login } from "./api.js";
import { el, facts } from "./dom.js";
import { instances } from "./instances.js";
import { confirmed, failed, here } from "./page.js";
import { project, projects } from "./projects.js";
import { session } from "./session.js";
import { sessions } from "./sessions.js";
import { events, usage } from "./views.js";

const VIEWS = { sessions, instances, projects, usage, events };
const main = document.getElementById("main"), live = document.getElementById("live");
const INSIDE = { session: "sessions", project: "projects" }; // views of one thing, and the list it is in

async function view() {
  here.now.left = true;
  here.now.leave();
  const me = here.now = { heard: () => {}, leave: () => {}, left: false };
  const [name, id] = location.hash.replace(/^#\/?/, "").split("?")[0].split("/");
  const known = INSIDE[name] || (VIEWS[name] ? name : "sessions");
  document.getElementById("nav").replaceChildren(...Object.keys(VIEWS).map((one) => el("a", { href: "#/" + one, "aria-current": one === known ? "page" : false }, one[0].toUpperCase() + one.slice(1))));
  const root = el("div", { "data-view": name || "sessions" });
  main.replaceChildren(root);
  try {
    if (name === "session" && /^[0-9a-f-]+(~[\w-]+)?$/.test(id || "")) await session(root, me, id);
    else if (name === "project" && /^[\w.-]+$/.test(id || "")) await project(root, me, id);
    else await VIEWS[known](root, me);
  } catch (error) { if (!me.left) failed(error); }
  if (!me.left) { root.dataset.ready = "yes"; if (!main.contains(document.activeElement)) main.focus({ preventScroll: true }); }
}

function moved(step) {
  const all = [...main.querySelectorAll(".move")].filter((node) => node.offsetParent);
  const at = all.indexOf(document.activeElement);
  all[Math.max(0, Math.min(all.length - 1, at + step))]?.focus();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea"), open = document.getElementById("dialog").open;
  if (open || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (INSIDE[location.hash.slice(2).split("/")[0]]) history.back();
    return;
  }
  if (typing && !(typing.id === "search" && event.key === "ArrowDown")) return;
  const views = Object.keys(VIEWS), number = Number(event.key);
  if (event.key === "/") document.getElementById("search")?.focus();
  else if (event.key === "j" || event.key === "ArrowDown") moved(1);
  else if (event.key === "k" || event.key === "ArrowUp") moved(-1);
  else if (event.key === "c") document.getElementById("say")?.focus();
  else if (event.key === "?") help();
  else if (number >= 1 && number <= views.length) location.hash = "#/" + views[number - 1];
  else return;
  event.preventDefault();
});

const KEYS = [["/", "search"], ["j k, arrows", "move"], ["Enter", "open"], ["c", "say something in a session"], ["Tab", "what can be done here"], ["Esc", "back, or out of a field"], ["1 – 5", "views"], ["?", "this"]];
const help = () => confirmed("Keys", [facts(KEYS.map(([key, what]) => [el("kbd", null, key), what]))], "");

async function begin() {
  const code = location.hash.slice(1);
  if (code && !code.startsWith("/") && code !== "main") {
    history.replaceState(null, "", "/#/sessions");
    try { await login(code); } catch (error) { failed(error); return; }
  }
  try { await get("/about"); } catch (error) { failed(error); return; }
  addEventListener("hashchange", () => { if (location.hash !== "#main") view(); });
  await view();
  follow((event) => here.now.heard(event), { state: (on) => { live.textContent = on ? "live" : "not connected"; live.className = "live " + (on ? "on" : "off"); } });
}

begin();

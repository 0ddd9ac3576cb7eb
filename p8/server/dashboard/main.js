// The page: log in by the link, show a view, move by keys, follow what happens.

import { follow, get, login } from "./api.js";
import { el } from "./dom.js";
import { failed, here } from "./page.js";
import { session, sessions } from "./sessions.js";
import { events, instances, projects, usage } from "./views.js";

const VIEWS = { sessions, instances, projects, usage, events };
const main = document.getElementById("main"), live = document.getElementById("live");
let offers = [], turn = 0;

async function view() {
  const mine = ++turn;
  here.leave();
  here.heard = here.leave = () => {};
  const [name, id] = location.hash.replace(/^#\/?/, "").split("?")[0].split("/");
  const known = name === "session" ? "sessions" : VIEWS[name] ? name : "sessions";
  document.getElementById("nav").replaceChildren(...Object.keys(VIEWS).map((one) => el("a", { href: "#/" + one, "aria-current": one === known ? "page" : false }, one[0].toUpperCase() + one.slice(1))));
  const root = el("div", { "data-view": name || "sessions" });
  main.replaceChildren(root);
  try {
    if (name === "session" && /^[0-9a-f-]+(~[\w-]+)?$/.test(id || "")) await session(root, id);
    else await VIEWS[known](root, offers);
  } catch (error) { if (mine === turn) failed(error); }
  if (mine === turn) { root.dataset.ready = "yes"; if (!main.contains(document.activeElement)) main.focus({ preventScroll: true }); }
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
    else if (location.hash.startsWith("#/session/")) history.back();
    return;
  }
  if (typing && event.key !== "ArrowDown") return;
  const views = Object.keys(VIEWS), number = Number(event.key);
  if (event.key === "/") document.getElementById("search")?.focus();
  else if (event.key === "j" || event.key === "ArrowDown") moved(1);
  else if (event.key === "k" || event.key === "ArrowUp") moved(-1);
  else if (number >= 1 && number <= views.length) location.hash = "#/" + views[number - 1];
  else return;
  event.preventDefault();
});

async function begin() {
  const code = location.hash.slice(1);
  if (code && !code.startsWith("/") && code !== "main") {
    history.replaceState(null, "", "/#/sessions");
    try { await login(code); } catch (error) { failed(error); return; }
  }
  try { offers = (await get("/about")).offers; } catch (error) { failed(error); return; }
  addEventListener("hashchange", () => { if (location.hash !== "#main") view(); });
  await view();
  follow((event) => here.heard(event), (on) => { live.textContent = on ? "live" : "not connected"; live.className = "live " + (on ? "on" : "off"); });
}

begin();

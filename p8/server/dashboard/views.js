// What was used, and what happens.

import { get } from "./api.js";
import { ago, count, el } from "./dom.js";
import { failed, plain, title } from "./page.js";
import { bars, lines, rows } from "./plots.js";

const DAY = 864e5;
const money = (cost) => "$" + cost.toFixed(cost < 1 ? 4 : 2);

export async function usage(root, me) {
  const span = el("select", { "aria-label": "How far back" }, [7, 14, 30, 90].map((days) => el("option", { value: days, selected: days === 14 }, `${days} days`)));
  const box = el("div", null);
  async function load() {
    const days = Number(span.value), found = await get("/metrics", { days }), sums = found.totals;
    const of = Object.fromEntries(found.by_day.map((one) => [one.day, one]));
    const names = Array.from({ length: days }, (_, n) => new Date(Date.now() - (days - 1 - n) * DAY).toISOString().slice(0, 10));
    const values = (name) => names.map((day) => of[day]?.[name] || 0), short = names.map((day) => day.slice(5));
    let spent = 0;
    const cost = values("cost").map((one) => (spent += one));
    const figure = (name, value) => el("div", { class: "card" }, el("b", null, value), el("span", { class: "dim" }, name));
    const tokens = (one) => one.tokens_in + one.tokens_out;
    box.replaceChildren(
      el("div", { class: "figures" }, figure("sessions", count(sums.sessions)), figure("messages", count(sums.messages)), figure("commands run", count(sums.executions)),
        figure("tokens in", count(sums.tokens_in)), figure("tokens out", count(sums.tokens_out)), figure("cost", money(sums.cost))),
      el("p", { class: "dim" }, "Sessions: ", Object.entries(found.status).map(([name, many]) => [el("span", { class: "chip " + name }, `${count(many)} ${name}`), " "])),
      el("div", { class: "card" }, bars("A day's messages and commands, by the day a session was last worked in", short, [["messages", values("messages")], ["commands", values("executions")]])),
      el("div", { class: "card" }, bars("Tokens a day", short, [["in", values("tokens_in")], ["out", values("tokens_out")]])),
      spent ? el("div", { class: "card" }, lines("Cost so far, in cents", short, [["cents", cost.map((one) => one * 100)]])) : "",
      el("div", { class: "halves" },
        el("div", { class: "card" }, rows("Tokens by model", found.by_model.filter(tokens).slice(0, 10).map((one) => [one.model || "unknown", tokens(one)]))),
        el("div", { class: "card" }, rows("Messages by project", found.by_project.filter((one) => one.messages).slice(0, 10).map((one) => [one.project, one.messages])))));
  }
  span.addEventListener("change", () => load().catch(failed));
  root.append(el("div", { class: "bar" }, el("h1", null, title("Usage")), span), box);
  await load();
}

export async function events(root, me) {
  const list = el("ul", { class: "rows", "aria-label": "Events", "aria-live": "off" });
  const kind = el("select", { "aria-label": "Kind" }, ["all", "session", "message", "command", "execution", "checkpoint", "part", "event"].map((name) => el("option", { value: name }, name)));
  const out = (one) => kind.value !== "all" && kind.value !== one;
  const line = (event) => {
    const values = event.data.set && typeof event.data.set === "object" ? Object.entries(event.data.set).map(([name, value]) => `${name}: ${plain(value)}`).join(", ") : "";
    const where = event.data.about || event.stream, open = where && !where.startsWith("~") ? "#/session/" + where + (where === event.stream ? "?at=" + event.seq : "") : "#/events";
    return el("li", { hidden: out(event.kind), "data-kind": event.kind }, el("a", { class: "row move", href: open },
      el("span", { class: "title" }, el("span", { class: "chip" }, event.kind), plain(event.data.what || event.data.role), " ", plain(event.data.content || event.data.command || event.data.text || event.data.name || values).slice(0, 200)),
      el("time", { class: "when", datetime: event.time }, ago(event.time)), el("span", { class: "what mono" }, event.stream, " ", event.seq)));
  };
  const add = (event) => { list.prepend(line(event)); while (list.children.length > 500) list.lastChild.remove(); };
  kind.addEventListener("change", () => { for (const node of list.children) node.hidden = out(node.dataset.kind); });
  root.append(el("h1", null, title("Events")), el("div", { class: "bar" }, kind, el("span", { class: "dim" }, "as they happen, from all processes")), list);
  for (const event of (await get("/events", { newest: true, limit: 100 })).items) add(event);
  me.heard = add;
}

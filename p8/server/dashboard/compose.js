// The message box of a session: what is said goes over the session's stream, to be answered by whoever has it.
// A message is sent again, with its own id, until the server says that it is recorded; so it is said once.

import { follow } from "./api.js";
import { button, el } from "./dom.js";
import { confirmed, failed, plain } from "./page.js";

const NEAR = 200; // pixels from the end: whoever is there stays there
const CHOICES = [["once", "Yes, this once"], ["always", "Always in this session"], ["no", "No"], ["never", "Never in this session"], ["cancel", "Stop the answer"]];

export function composer(id, row) {
  const text = el("textarea", { id: "say", rows: 2, "aria-label": "Message", placeholder: "Say something in this session", maxlength: 60000 });
  const status = el("span", { class: "dim", role: "status" }), answer = el("article", { class: "entry assistant coming", "aria-live": "off" });
  answer.hidden = true;
  const stop = button("Stop", () => stream.send({ stop: true }));
  stop.hidden = true;
  const node = el("form", { class: "say", "aria-label": "Say something" }, text, el("div", { class: "bar" }, el("button", { class: "go", type: "submit" }, "Send"), stop, status));
  const out = new Map();
  let said = "", asking = "", turn = 0;

  const last = () => answer.hidden ? answer.previousElementSibling?.lastElementChild : answer;
  const end = () => last()?.scrollIntoView({ block: "end" });
  const keep = (change) => {
    const near = !last() || last().getBoundingClientRect().bottom < innerHeight + NEAR;
    change();
    if (near) end();
  };
  const settled = () => { answer.replaceChildren(); answer.hidden = true; said = ""; };
  const send = (one) => { if (!stream.send({ say: one.text, id: one.id, take_over: one.take })) status.textContent = "not connected; it is sent as soon as it is"; };

  node.addEventListener("submit", (event) => {
    event.preventDefault();
    const words = text.value.trim();
    if (!words) return;
    const one = { id: crypto.randomUUID(), text: words, take: false };
    out.set(one.id, one);
    text.value = "";
    status.textContent = "sending";
    send(one);
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); node.requestSubmit(); }
  });

  async function refused(one, problem) {
    if (problem.type === "urn:p8:Held" && !one.take) {
      const yes = await confirmed("It is open elsewhere", [el("p", null, problem.detail, "."), el("p", null, "Take it over? What is typed there afterwards begins a new session.")], "Take it over");
      if (yes) { one.take = true; out.set(one.id, one); send(one); return; }
    } else failed({ message: problem.detail, hint: problem.hint });
    if (!one.recorded && !text.value) text.value = one.text;
  }

  function told(message) {
    if (message.refused) failed({ message: message.refused.detail, hint: message.refused.hint });
    if (message.said) {
      const { id: key, state, problem } = message.said, one = out.get(key);
      if (state === "waiting") status.textContent = "waits until the p8 that has the session open is free";
      if (state === "recorded") { status.textContent = "answering"; stop.hidden = false; if (one) one.recorded = true; }
      if (state === "done" || state === "refused") { out.delete(key); if (!out.size) { status.textContent = ""; stop.hidden = true; } }
      if (state === "refused") { keep(settled); refused(one || { text: "", take: true, recorded: true }, problem); }
    }
    if (message.live) keep(() => coming(message.live));
  }

  function coming(live) {
    if (live.turn !== turn) { settled(); turn = live.turn; }
    for (const piece of live.parts) {
      if (piece.kind === "text") said += piece.text;
      else if (piece.kind === "question") question(piece);
      else if (piece.kind !== "thought") answer.append(el("div", { class: "small dim" }, piece.kind === "tool" ? "⚙ " : "", plain(piece.title || piece.text), " ", plain(piece.status || piece.answer)));
    }
    let box = answer.querySelector("pre");
    if (!box) answer.append(box = el("pre", null));
    box.replaceChildren(el("span", null, said));
    answer.hidden = !said && !answer.querySelector(".small");
    stop.hidden = live.over && !out.size;
    if (live.over) setTimeout(() => { if (live.turn === turn) keep(settled); }, 1500);
  }

  async function question(piece) {
    if (asking === piece.question) return;
    asking = piece.question;
    const given = piece.input && typeof piece.input === "object" ? plain(piece.input.command || piece.input.path || piece.input.file_path || "") : "";
    const content = (Array.isArray(piece.content) ? piece.content : []).map((one) => el("pre", { class: "code list" }, one.new !== undefined ? `${plain(one.path)}\n${plain(one.new)}` : plain(one.text)));
    const wanted = CHOICES.filter(([name]) => name === "cancel" || !piece.choices || piece.choices.includes(name));
    const list = el("select", { "aria-label": "Answer" }, wanted.map(([value, name]) => el("option", { value }, name)));
    const yes = await confirmed(`May it? ${plain(piece.title || piece.scope)}`, [given ? el("pre", { class: "code" }, given) : "", content, list], "Answer");
    stream.send({ answer: yes ? list.value : "no", question: piece.question });
  }

  const stream = follow(() => {}, { told, state: (on) => { if (on) for (const one of out.values()) if (!one.recorded) send(one); } }, { session: id });
  if (row.trashed) { text.disabled = true; text.placeholder = "It is in the trash."; }
  return { node, answer, keep, settled, end, close: stream.close };
}

// What the server is asked, and how its stream is followed. Text stays text: nothing here makes markup of it.

const CSRF = "p8.csrf";

export class Problem extends Error {
  constructor(found) {
    super(found.detail || found.title || "something went wrong");
    this.hint = found.hint || "";
    this.status = found.status || 0;
    this.type = found.type || "";
  }
}

export async function ask(method, path, body) {
  const headers = { "x-p8-csrf": localStorage.getItem(CSRF) || "" };
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem({ detail: "the server does not answer", hint: "is p8 serve running?" });
  }
  const found = await answer.json();
  if (!answer.ok) throw new Problem(found);
  return found;
}

export const get = (path, values = {}) => {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const query = new URLSearchParams(given).toString();
  return ask("GET", "/api/v1" + path + (query ? "?" + query : ""));
};

export const post = (path, body = {}) => ask("POST", "/api/v1" + path, body);

export async function login(code) {
  const found = await ask("POST", "/login", { code });
  localStorage.setItem(CSRF, found.csrf);
}

// Follows the stream until it is closed; goes on from the last cursor after every interruption.
// heard: told each event. on.state: whether it is connected. on.told: every message besides events.
export function follow(heard, on = {}, query = {}) {
  let cursor = "", pause = 250, socket = null, over = false;
  const open = () => {
    if (over) return;
    const given = new URLSearchParams({ ...query, ...(cursor ? { after: cursor } : {}) }).toString();
    socket = new WebSocket(`ws://${location.host}/api/v1/stream${given ? "?" + given : ""}`,
      ["p8.stream.v1", "csrf." + (localStorage.getItem(CSRF) || "")]);
    socket.onopen = () => { pause = 250; on.state?.(true); };
    socket.onmessage = (message) => {
      const told = JSON.parse(message.data);
      if (told.problem) cursor = "";
      else if (told.events) {
        cursor = told.cursor;
        for (const event of told.events) heard(event);
      } else on.told?.(told);
    };
    socket.onclose = () => {
      if (over) return;
      on.state?.(false);
      setTimeout(open, pause);
      pause = Math.min(pause * 2, 8000);
    };
  };
  open();
  return {
    send: (data) => { if (socket.readyState !== WebSocket.OPEN) return false; socket.send(JSON.stringify(data)); return true; },
    close: () => { over = true; socket.close(); },
  };
}

// What the server is asked, and how its stream is followed. Text stays text: nothing here makes markup of it.

const CSRF = "p8.csrf";

export class Problem extends Error {
  constructor(found) {
    super(found.detail || found.title || "something went wrong");
    this.hint = found.hint || "";
    this.status = found.status || 0;
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

export async function login(code) {
  const found = await ask("POST", "/login", { code });
  localStorage.setItem(CSRF, found.csrf);
}

// Follows the stream for as long as the page lives; goes on from the last cursor after every interruption.
export function follow(heard, state) {
  let cursor = "", pause = 250;
  const open = () => {
    const socket = new WebSocket(
      `ws://${location.host}/api/v1/stream${cursor ? "?after=" + cursor : ""}`,
      ["p8.stream.v1", "csrf." + (localStorage.getItem(CSRF) || "")],
    );
    socket.onopen = () => { pause = 250; state(true); };
    socket.onmessage = (message) => {
      const told = JSON.parse(message.data);
      if (told.problem) { cursor = ""; return; }
      cursor = told.cursor;
      for (const event of told.events) heard(event);
    };
    socket.onclose = () => {
      state(false);
      setTimeout(open, pause);
      pause = Math.min(pause * 2, 8000);
    };
  };
  open();
}

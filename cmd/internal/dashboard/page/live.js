// What the page asks the sidecar. The token is kept for this tab only, in sessionStorage; the write token nowhere but in memory.
import { $, text } from "./dom.js";

const kept = "pillion-token";
let write = "";

export class Refused extends Error {
  constructor(status, why) { super(why); this.status = status; }
}

function headers(more) {
  const token = sessionStorage.getItem(kept);
  return { ...(token ? { Authorization: "Bearer " + token } : {}), ...more };
}

// ask shows the dialog and resolves to what was written, "" if nothing.
function ask(title, why) {
  const d = $("ask");
  text($("asktitle"), title);
  text($("askwhy"), why);
  $("asktoken").value = "";
  if (d.open) return Promise.resolve("");
  d.showModal();
  return new Promise((done) => d.addEventListener("close", () => {
    const v = d.returnValue === "ok" ? $("asktoken").value.trim() : "";
    $("asktoken").value = "";
    d.returnValue = "";
    done(v);
  }, { once: true }));
}

// login asks for the token; false if the user would not say.
let asking = null;
export function login() {
  asking ||= ask("Token", sessionStorage.getItem(kept) ? "That token is not right. It is admin.token of this sidecar's configuration." :
    "This sidecar wants the token of its configuration (admin.token). It is kept until this tab is closed, and sent to this address only.")
    .then((t) => { asking = null; if (t) sessionStorage.setItem(kept, t); return !!t; });
  return asking;
}

export async function get(path, more) {
  for (;;) {
    const r = await fetch(path, { headers: headers(more && more.headers), signal: more && more.signal, cache: "no-store", credentials: "omit", redirect: "error" });
    if (r.ok) return r;
    if (r.status === 401 && await login()) continue;
    throw new Refused(r.status, (await r.text()).trim());
  }
}

// act changes something. Where this sidecar wants the write token it is asked for.
export async function act(path) {
  for (let again = false; ; again = true) {
    const h = headers({ "Pillion-Action": "1" });
    if (write) h.Authorization = "Bearer " + write;
    const r = await fetch(path, { method: "POST", headers: h, cache: "no-store", credentials: "omit", redirect: "error" });
    if (r.status !== 401 && r.status !== 403) return r;
    const why = (await r.text()).trim();
    write = await ask("Write token", again ? "That token is not right: " + why : why);
    if (!write) throw new Refused(r.status, why);
  }
}

// follow calls each with every event of a stream until it ends.
export async function follow(path, each, signal) {
  const r = await get(path, { headers: { Accept: "text/event-stream" }, signal });
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const p of parts) {
      const data = p.split("\n").filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
      if (data) each(JSON.parse(data));
    }
  }
}

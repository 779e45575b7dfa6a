// The sidecars that this one calls, by their own account. They are asked only while their section is in sight.
import { $, h, text, attr, keyed, rows, duration, bytes, percent, short } from "./dom.js";
import { get } from "./live.js";

const every = 5000;
let timer = null;

function table(name, ...heads) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name },
    h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((t) => (t.startsWith("#") ? h("th", { class: "n" }, t.slice(1)) : h("th", {}, t))))), h("tbody")));
}

function made() {
  return h("details", {}, h("summary", {}, h("span", { class: "tag" }), h("span", { class: "what" }), h("span", { class: "how muted" })),
    h("div", { class: "peer" }, h("p"),
      table("Its app", "App port", "Goes to", "Health", "#Running"),
      table("What it calls", "It calls", "Endpoint", "Health", "#In flight", "#Latency"),
      table("Its links", "Link", "With", "Over", "#RTT", "#Streams", "#In", "#Out")));
}

function state(p) {
  if (!p.status) return [p.code === "denied" ? "refused" : (p.code || "unknown").replaceAll("_", " "), p.code === "denied" ? "warn" : "bad"];
  return [p.status.state, p.status.state === "ready" ? "good" : "warn"];
}

function health(e) {
  if (e.out || !e.healthy) return { t: [e.out, e.error].filter(Boolean).join(": ") || "failing", c: "bad" };
  return e.tried ? { t: "ok", c: "good" } : { t: "not tried", c: "muted" };
}

function update(d, p) {
  const [tag, what, how] = d.firstChild.children, [says, apps, calls, links] = d.lastChild.children, st = p.status;
  const [word, kind] = state(p);
  text(tag, word);
  attr(tag, "class", "tag " + kind);
  text(what, `${short(p.identity)} at ${p.address}`);
  const left = st && (Date.parse(st.identity.not_after) - Date.now()) / 1000;
  text(how, st ? ["up " + duration(st.uptime_seconds), "loop " + percent(st.runtime.loop_busy), bytes(st.runtime.heap_bytes), left > 0 ? "certificate for " + duration(left) : "certificate expired"].join(" · ") : p.error);
  text(says, st ? [st.identity.id, "pillion " + st.version, "serves " + p.services.join(", "), "answered in " + duration(p.took_seconds), st.not_ready, st.identity.warning, st.identity.error].filter(Boolean).join(" · ") :
    [p.error, p.code === "denied" && "Name this sidecar in admin.share there to see more."].filter(Boolean).join(" "));
  for (const t of [apps, calls, links]) attr(t, "hidden", st ? null : "");
  if (!st) return;
  const body = (t) => t.querySelector("tbody");
  rows(body(apps), st.apps, (a) => a.port + a.protocol, (a) => [String(a.port), a.to, a.error ? { t: a.error, c: "bad" } : a.tried ? { t: "ok", c: "good" } : { t: "not tried", c: "muted" },
    a.load ? String(a.load.running) : "–"], "It has no app.");
  rows(body(calls), st.services.flatMap((s) => s.endpoints.map((e) => ({ s, e }))), (x) => x.s.name + " " + x.e.address, ({ s, e }) =>
    [s.name, e.address, health(e), String(e.pending + e.streams), duration(e.latency_seconds)], "It calls nobody.");
  rows(body(links), st.links, (l) => l.direction + l.peer + l.transport, (l) => [l.direction === "outbound" ? "→ " + l.peer : "← " + l.peer, short(l.identity), l.transport.toUpperCase(), duration(l.rtt_seconds),
    l.streams + " of " + l.streams_total, bytes(l.bytes_in), bytes(l.bytes_out)], "It has no link.");
}

function show(p) {
  attr($("peerrows"), "data-empty", p.peers.length ? null : "This sidecar calls no other.");
  keyed($("peerrows"), p.peers, (x) => x.identity + x.address, made, update);
  const shown = p.peers.filter((x) => x.status).length;
  text($("peersays"), p.peers.length ? `${shown} of ${p.peers.length} say what they do.` + (p.left ? ` ${p.left} more were not asked.` : "") : "");
}

async function ask() {
  try {
    if (document.visibilityState === "visible" && document.body.dataset.frames && $("live").dataset.state === "on") show(await (await get("/peers")).json());
  } catch (err) {
    text($("peersays"), err.message);
  }
}

new IntersectionObserver((seen) => {
  const near = seen[seen.length - 1].isIntersecting;
  if (near && !timer) {
    timer = setInterval(ask, every);
    ask();
  } else if (!near && timer) {
    clearInterval(timer);
    timer = null;
  }
}).observe($("peers"));

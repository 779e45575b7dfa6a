// The tables and tiles. Each function shows its part of a frame.
import { $, h, text, attr, keyed, rows, duration, bytes, rate, percent, short, clock } from "./dom.js";

const history = new Map(); // of the tiles, a minute long

function tiles(f) {
  const sum = (d, k) => f.edges.filter((e) => e.direction === d).reduce((n, e) => n + e[k], 0);
  const worst = f.edges.reduce((m, e) => Math.max(m, e.p99_seconds), 0);
  const all = sum("inbound", "rate") + sum("outbound", "rate"), bad = sum("inbound", "fail_rate") + sum("outbound", "fail_rate");
  const list = [
    { name: "Outbound", value: sum("outbound", "rate"), show: (x) => rate(x), unit: "/s" },
    { name: "Inbound", value: sum("inbound", "rate"), show: (x) => rate(x), unit: "/s" },
    { name: "Success", value: all > 0 ? 1 - bad / all : null, show: (x) => percent(x), bad: all > 0 && bad / all > 0.01 },
    { name: "Slowest p99", value: worst || null, show: (x) => duration(x) },
    { name: "Open streams", value: sum("outbound", "open") + sum("inbound", "open"), show: (x) => x },
    { name: "Links", value: f.status.links.length, show: (x) => x },
  ];
  const c = f.status.cache;
  if (c && c.services.length) {
    const r = ratio(c.services.reduce((a, s) => ({ hits: a.hits + s.hits, validated: a.validated + s.validated, collapsed: a.collapsed + s.collapsed, misses: a.misses + s.misses }),
      { hits: 0, validated: 0, collapsed: 0, misses: 0 }));
    list.push({ name: "Cache hits", value: r, show: (x) => percent(x) });
  }
  list.push({ name: "Busiest loop", value: f.status.runtime.loop_busy, show: (x) => (x * 100).toFixed(1) + " %" });
  list.push({ name: "Live heap", value: f.status.runtime.heap_bytes, show: (x) => bytes(x) });
  keyed($("tiles"), list, (x) => x.name, (x) => h("div", { class: "tile" }, h("span", { class: "muted" }, x.name), h("b"), spark()), (e, x) => {
    text(e.children[1], x.value == null ? "–" : x.show(x.value) + (x.unit || ""));
    attr(e, "data-bad", x.bad ? "1" : null);
    const past = history.get(x.name) || [];
    past.push(x.value || 0);
    if (past.length > 60) past.shift();
    history.set(x.name, past);
    const top = Math.max(...past, 1e-9), low = Math.min(...past);
    const points = past.map((v, i) => `${(100 * (i + 60 - past.length) / 59).toFixed(1)},${(22 - 20 * (top > low ? (v - Math.min(low, 0)) / (top - Math.min(low, 0)) : 0)).toFixed(1)}`);
    attr(e.children[2].firstChild, "points", points.join(" "));
  });
}

function spark() {
  const ns = "http://www.w3.org/2000/svg";
  const s = document.createElementNS(ns, "svg");
  attr(s, "viewBox", "0 0 100 24");
  attr(s, "preserveAspectRatio", "none");
  attr(s, "aria-hidden", "true");
  s.append(document.createElementNS(ns, "polyline"));
  return s;
}

function ratio(s) {
  const got = s.hits + s.validated + s.collapsed, asked = got + s.misses;
  return asked ? got / asked : null;
}

function health(e) {
  if (e.out) return { t: e.out + (e.again_seconds > 0 ? " for " + duration(e.again_seconds) : "") + (e.error ? ": " + e.error : ""), c: "bad" };
  if (!e.healthy) return { t: e.error || "failing", c: "bad" };
  if (!e.in_use) return { t: "spare", c: "muted", title: "discovery knows it, and it is not needed now: see the key aperture" };
  return e.tried ? { t: "ok", c: "good" } : { t: "not tried", c: "muted" };
}

function services(st) {
  const list = [];
  for (const s of st.services) {
    if (!s.endpoints.length) list.push({ s });
    for (const e of s.endpoints) list.push({ s, e });
  }
  const found = (s) => s.error ? { t: s.source + ": " + s.error, c: "bad" } : s.source + (s.age_seconds >= 0 ? "" : ", no answer yet");
  const spoken = (s) => s.protocol + (s.speaks ? ": " + s.speaks : "");
  rows($("endpoints"), list, (x) => x.s.name + " " + (x.e ? x.e.address : ""), ({ s, e }) => e ?
    [s.name, { t: e.address, title: [e.identity, e.zone && "zone " + e.zone, e.labels].filter(Boolean).join(" · ") }, health(e), String(e.pending + e.streams), duration(e.latency_seconds),
      { t: e.failing > 0 ? percent(e.failing) : "–", c: e.failing > 0.05 ? "bad" : "" }, spoken(s), found(s)] :
    [s.name, "–", { t: "no endpoints", c: "bad" }, "–", "–", "–", spoken(s), found(s)], "No service is configured.");
  rows($("apps"), st.apps, (a) => a.port + a.protocol, (a) => [String(a.port), a.to, a.protocol + (a.speaks ? ": " + a.speaks : ""), (a.allow || []).map(short).join(", ") || "all of the trust domain",
    a.error ? { t: a.error, c: "bad" } : a.tried ? { t: "ok", c: "good" } : { t: "not tried", c: "muted" }, String(a.idle_connections)], "No app is configured.");
}

function links(st) {
  rows($("linkrows"), st.links, (l) => l.direction + l.peer + l.transport, (l) => [l.direction === "outbound" ? "→ out" : "← in", l.peer, { t: short(l.identity), title: l.identity }, { t: l.transport.toUpperCase(), c: "tag" },
    duration(l.rtt_seconds), l.streams + " of " + l.streams_total, bytes(l.bytes_in), bytes(l.bytes_out), duration(l.age_seconds),
    { t: [l.suspect && "does not answer", l.draining && "draining", l.packets_lost && l.packets_lost + " packets lost", l.moves && "moved " + l.moves + "×", !l.pillion && "no pillion"].filter(Boolean).join(", ") || "–",
      c: l.suspect ? "bad" : "" }], "No link is open: they are made when the first request needs one.");
}

function cache(c) {
  attr($("cache"), "hidden", c ? null : "");
  attr(document.querySelector('nav a[href="#cache"]'), "hidden", c ? null : "");
  if (!c) return;
  text($("cachesays"), `${c.entries} kept, ${bytes(c.bytes)} of ${bytes(c.max_bytes)}, ${c.evictions} given up for room.`);
  rows($("cacherows"), c.services, (s) => s.name, (s) => {
    const r = ratio(s);
    return [s.name, r == null ? "–" : percent(r), s.hits, s.validated, s.collapsed, s.misses, s.passed, s.stored, bytes(s.bytes_served)].map((x) => String(x));
  }, "Nothing was looked for yet.");
}

function certificate(st) {
  const id = st.identity, from = Date.parse(id.not_before), to = Date.parse(id.not_after), now = Date.now();
  const left = (to - now) / 1000, part = Math.max(0, Math.min(1, (now - from) / (to - from)));
  const at = $("certificate");
  if (!at.firstChild) at.append(h("dl"), h("progress", { max: "1", "aria-label": "Part of the certificate's life that is over" }), h("p", { class: "bad" }), h("h3", {}, "Who has proved to be whom"), h("ul", { class: "peers" }));
  const facts = [["Identity", id.id], ["Issued by", id.issuer || "–"], ["Read from", id.source || "the development CA"], ["Valid", new Date(from).toLocaleString() + " to " + new Date(to).toLocaleString()],
    ["Time left", left > 0 ? duration(left) : "expired"], ["SHA-256", id.fingerprint || "–"]];
  keyed(at.children[0], facts, (x) => x[0], (x) => h("div", {}, h("dt", {}, x[0]), h("dd")), (e, x) => text(e.children[1], x[1]));
  at.children[1].value = part;
  attr(at.children[1], "data-bad", left < 0.1 * (to - from) / 1000 ? "1" : null);
  text(at.children[2], [id.warning, id.error].filter(Boolean).join(" "));
  const peers = new Map();
  for (const l of st.links) peers.set(l.identity, (peers.get(l.identity) || new Set()).add((l.direction === "outbound" ? "called at " : "calls from ") + l.peer.replace(/:\d+$/, "")));
  attr(at.children[3], "hidden", peers.size ? null : "");
  keyed(at.children[4], [...peers], (x) => x[0], () => h("li", {}, h("code"), h("span", { class: "muted" })), (e, x) => { text(e.children[0], x[0]); text(e.children[1], " " + [...x[1]].join(", ")); });
}

function head(f) {
  const st = f.status;
  text($("service"), st.service);
  if (document.title !== st.service + " – pillion") document.title = st.service + " – pillion";
  $("state").hidden = false;
  text($("state"), st.state);
  attr($("state"), "data-state", st.state);
  text($("about"), [st.identity.id, "up " + duration(st.uptime_seconds), "pillion " + st.version, "pid " + st.pid].join("  ·  "));
  const c = st.configuration;
  text($("configsays"), [st.config || "From the command line", c && "number " + c.generation + ", in force for " + duration(c.age_seconds)].filter(Boolean).join(", ") + ".");
  const notes = [];
  if (st.not_ready) notes.push(["Not ready: " + st.not_ready, "warn"]);
  if (st.identity.warning) notes.push([st.identity.warning, "warn"]);
  if (st.identity.error) notes.push(["The certificate was not renewed: " + st.identity.error, "bad"]);
  if (c && c.error) notes.push(["The last reload failed, and what was in force stays: " + c.error, "bad"]);
  for (const s of st.services) if (s.error) notes.push([`Discovery of ${s.name} fails: ${s.error}`, "warn"]);
  keyed($("notices"), notes, (x) => x[0], (x) => h("p", { class: "notice" }), (e, x) => { text(e, x[0]); attr(e, "class", "notice " + x[1]); });
}

function stories(f, open) {
  const list = f.stories.slice(0, 30);
  attr($("stories"), "data-empty", list.length ? null : "Nothing has failed, and nothing was unusually slow.");
  keyed($("stories"), list, (s) => s.id + s.direction + s.at, (s) => {
    const d = h("details", {}, h("summary", {}, h("span", { class: "when" }), h("span", { class: "tag" }), h("span", { class: "what" }), h("span", { class: "how muted" })), h("div", { class: "story" }));
    d.addEventListener("toggle", () => { if (d.open && !d.lastChild.firstChild) open(s, d.lastChild); });
    return d;
  }, (d, s) => {
    const [when, tag, what, how] = d.firstChild.children;
    text(when, clock(s.at));
    text(tag, s.status || "cut");
    attr(tag, "class", "tag " + (s.why === "failed" ? "bad" : s.why === "slow" ? "warn" : ""));
    text(what, `${s.method} ${s.authority || ""}${s.path || ""}`);
    text(how, [s.direction === "outbound" ? "→ " + (s.service || "?") : "← " + short(s.caller), s.code, s.why !== "failed" && s.why, duration(s.duration_ns / 1e9)].filter(Boolean).join(" · "));
  });
}

export function show(f, open) {
  head(f);
  tiles(f);
  stories(f, open);
  services(f.status);
  links(f.status);
  cache(f.status.cache);
  certificate(f.status);
}

// story tells a request's timeline.
export function story(at, s) {
  const ms = (ns) => "+" + duration(ns / 1e9 || 1e-9);
  at.append(h("p", {}, [s.advice, s.error].filter(Boolean).join(" ") || (s.why === "slow" ? "It took longer than 99 of 100 requests of its kind." : "")));
  const events = (s.events || []).map((e) => [e.after_ns, e.layer, e.text + (e.n ? " (" + e.n + ")" : "") + (e.endpoint ? " " + e.endpoint : "")]);
  (s.attempts || []).forEach((a, i) => {
    events.push([a.start_ns, "attempt " + (i + 1), "sent" + (a.endpoint ? " to " + a.endpoint : "")]);
    if (a.head_ns) events.push([a.head_ns, "attempt " + (i + 1), "answered " + a.status]);
    if (a.end_ns) events.push([a.end_ns, "attempt " + (i + 1), "failed: " + a.code]);
  });
  if (s.head_ns) events.push([s.head_ns, "answer", "head" + (s.status ? " " + s.status : "")]);
  events.push([s.duration_ns, "end", String(s.end).replaceAll("_", " ")]);
  events.sort((a, b) => a[0] - b[0]);
  at.append(h("ol", {}, ...events.map((e) => h("li", {}, h("span", { class: "n" }, ms(e[0])), h("b", {}, e[1]), h("span", {}, e[2])))));
  const parts = Object.entries(s.parts || {}).map(([k, ns]) => [k.replace("_ns", ""), ns]);
  const all = parts.reduce((n, p) => n + p[1], 0);
  if (all > 0) {
    at.append(h("div", { class: "parts", role: "img", "aria-label": "Where the time went: " + parts.map(([k, ns]) => k + " " + duration(ns / 1e9)).join(", ") },
      ...parts.map(([k, ns]) => {
        const e = h("span", { class: "part " + k, title: k }, `${k} ${duration(ns / 1e9)}`);
        e.style.flexGrow = Math.max(0.02, ns / all);
        return e;
      })));
  }
  at.append(h("p", { class: "muted" }, `${s.bytes_in} bytes in, ${s.bytes_out} out` + (s.client ? ", from " + s.client : "") + `. On a terminal: pillion why ${s.id}`));
}

// reloaded says what a reload changed, or would.
export function reloaded(at, r, applied) {
  at.replaceChildren();
  if (!r.ok) at.append(h("p", { class: "notice bad" }, "It cannot be put into force:"), h("ul", {}, ...r.problems.map((p) => h("li", {}, [p.file && p.line ? `${p.file}:${p.line}:${p.column}` : "", p.key, p.text].filter(Boolean).join(" ")))));
  else if (!r.changes.length) at.append(h("p", { class: "notice" }, "Nothing differs from what is in force."));
  else at.append(h("p", { class: "notice good" }, applied ? "In force now:" : "It would change:"), h("ul", {}, ...r.changes.map((c) => h("li", {}, h("code", {}, c.key), `: ${c.old || "none"} → ${c.new || "none"}` + (c.restart ? " (takes a restart)" : "")))));
}

// tapped puts an event on top of the table, of at most 200.
export function tapped(e) {
  const peer = e.direction === "outbound" ? e.service || "–" : short(e.peer) || "–";
  const bad = e.code || e.status >= 500 || !e.status;
  const cells = [[clock(e.time)], [e.direction === "outbound" ? "→" : "←"], [e.status || "–", bad ? "bad" : e.status >= 400 ? "warn" : "good"],
    [`${e.method} ${e.authority || ""}${e.path || ""}` + (e.shape === "exchange" ? "" : ` (${e.shape} ${e.what})`), "what"], [peer + (e.code ? " · " + e.code : "") + (e.missed ? ` (${e.missed} more not shown)` : "")],
    [e.duration_ns ? duration(e.duration_ns / 1e9) : "≈ 0", "n"], [bytes(e.bytes_in), "n"], [bytes(e.bytes_out), "n"]];
  const body = $("taprows");
  body.prepend(h("tr", {}, ...cells.map(([t, c]) => h("td", { class: c }, String(t)))));
  while (body.rows.length > 200) body.lastElementChild.remove();
}

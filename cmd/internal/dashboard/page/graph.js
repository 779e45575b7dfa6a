// The service graph: who calls this sidecar's app, and what the app calls, with what happens on the way.
import { h, text, attr, keyed, rate, percent, duration, short } from "./dom.js";

const svgNS = "http://www.w3.org/2000/svg";
let root, svg, left, right, me;

function build(at) {
  root = at;
  svg = document.createElementNS(svgNS, "svg");
  attr(svg, "aria-hidden", "true");
  left = h("ul", { class: "side from", "aria-label": "Callers" });
  me = h("div", { class: "node me" }, h("strong"), h("span", { class: "muted" }));
  right = h("ul", { class: "side to", "aria-label": "Services that are called" });
  root.append(svg, left, me, right);
  new ResizeObserver(draw).observe(root);
}

function state(e) {
  if (!e.edge || !(e.edge.rate > 0)) return e.sick ? "bad" : "idle";
  const failing = e.edge.fail_rate / e.edge.rate;
  return failing > 0.05 ? "bad" : failing > 0.001 ? "warn" : "good";
}

function make() {
  return h("li", { class: "edge" }, h("div", { class: "node" }, h("strong"), h("span", { class: "muted" })),
    h("div", { class: "label" }, h("b"), h("span", { class: "ok" }), h("span", { class: "lat" })));
}

function update(li, e) {
  const [node, label] = li.children;
  const x = e.edge;
  li.dataset.state = state(e);
  li.dataset.rate = x ? x.rate : 0;
  text(node.children[0], e.name);
  attr(node, "title", e.title);
  text(node.children[1], e.note);
  text(label.children[0], x ? rate(x.rate) + "/s" : "–");
  text(label.children[1], x && x.rate > 0 ? percent(1 - x.fail_rate / x.rate) + " ok" : x && x.requests ? x.requests + " so far" : "no requests yet");
  text(label.children[2], x && x.p50_seconds > 0 ? "p50 " + duration(x.p50_seconds) + " · p99 " + duration(x.p99_seconds) : "");
}

export function graph(at, frame) {
  if (!root) build(at);
  const st = frame.status;
  const from = [], to = [];
  for (const e of frame.edges) {
    if (e.direction !== "inbound") continue;
    from.push({ key: e.peer + " " + e.port, name: short(e.peer) || "unknown", title: e.peer, edge: e, note: "→ app port " + (e.port || "?") + (e.open ? " · " + e.open + " open" : "") });
  }
  const calls = new Map(frame.edges.filter((e) => e.direction === "outbound").map((e) => [e.service, e]));
  for (const s of st.services) {
    const up = s.endpoints.filter((e) => e.healthy).length, e = calls.get(s.name);
    calls.delete(s.name);
    to.push({ key: s.name, name: s.name, title: s.source, edge: e, sick: s.endpoints.length > 0 && up === 0 || s.error && !s.endpoints.length,
      note: up + " of " + s.endpoints.length + " endpoint" + (s.endpoints.length === 1 ? "" : "s") + (e && e.open ? " · " + e.open + " open" : "") });
  }
  for (const e of calls.values()) to.push({ key: "?" + e.service, name: e.service || "no service", title: "", edge: e, note: e.service ? "" : "names that lead nowhere" });
  text(me.children[0], st.service);
  const now = (frame.running.outbound || 0) + (frame.running.inbound || 0);
  text(me.children[1], now + " running now");
  keyed(left, from, (x) => x.key, make, update);
  keyed(right, to, (x) => x.key, make, update);
  attr(left, "data-empty", from.length ? null : "Nobody has called yet");
  attr(left, "hidden", from.length || st.apps.length ? null : "");
  attr(right, "data-empty", to.length ? null : "No service is configured");
  attr(right, "hidden", to.length || !from.length ? null : "");
  attr(root, "data-sides", left.hidden ? "right" : right.hidden ? "left" : null);
  draw();
}

// draw puts a curve behind each label: as wide as there is traffic.
function draw() {
  if (!me) return;
  const wide = matchMedia("(min-width: 760px)").matches;
  const box = root.getBoundingClientRect(), c = me.getBoundingClientRect();
  const y0 = c.top + c.height / 2 - box.top;
  const lines = [];
  if (wide) {
    for (const li of root.querySelectorAll(".edge")) {
      const n = li.firstElementChild.getBoundingClientRect(), l = li.lastElementChild.getBoundingClientRect();
      const into = li.parentElement === left;
      const x1 = (into ? n.right : n.left) - box.left, x2 = (into ? c.left : c.right) - box.left;
      const xl = (into ? l.right : l.left) - box.left, y = n.top + n.height / 2 - box.top, mid = (xl + x2) / 2;
      lines.push({ key: li.parentElement.className + li.dataset.key, state: li.dataset.state, width: 1.5 + Math.min(5, Math.log10(1 + +li.dataset.rate) * 1.6),
        d: into ? `M${x1} ${y}H${xl}C${mid} ${y} ${mid} ${y0} ${x2} ${y0}` : `M${x2} ${y0}C${mid} ${y0} ${mid} ${y} ${xl} ${y}H${x1}` });
    }
  }
  keyed(svg, lines, (x) => x.key, () => document.createElementNS(svgNS, "path"), (p, x) => {
    attr(p, "d", x.d);
    attr(p, "class", x.state);
    attr(p, "stroke-width", x.width.toFixed(1));
  });
}

// Small things that the other scripts share. Text becomes text nodes only, never markup.

// h makes an element: h("td", {class: "n"}, "text", child).
export function h(tag, attrs, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (v === true) e.setAttribute(k, "");
    else if (v !== false && v != null) e.setAttribute(k, v);
  }
  e.append(...children.filter((c) => c != null));
  return e;
}

export const $ = (id) => document.getElementById(id);

// text sets what an element says, if that is something else: an unchanged page does nothing, and selections stay.
export function text(e, s) {
  s = String(s);
  if (e.textContent !== s) e.textContent = s;
}

export function attr(e, name, value) {
  if (value == null || value === false) {
    if (e.hasAttribute(name)) e.removeAttribute(name);
  } else if (e.getAttribute(name) !== String(value)) e.setAttribute(name, String(value));
}

// keyed makes the children of parent those of items, in their order: the child of a key is made once and then changed in place, so that focus stays.
export function keyed(parent, items, key, make, update) {
  const old = new Map();
  for (const c of parent.children) old.set(c.dataset.key, c);
  let at = parent.firstElementChild;
  const seen = new Set();
  for (const item of items) {
    let k = String(key(item));
    while (seen.has(k)) k += "'";
    seen.add(k);
    let e = old.get(k);
    if (!e) {
      e = make(item);
      e.dataset.key = k;
    }
    update(e, item);
    if (e === at) at = at.nextElementSibling;
    else parent.insertBefore(e, at);
    old.delete(k);
  }
  for (const e of old.values()) e.remove();
}

// rows fills a table body. cells returns, for an item, strings or {t: text, c: class, title}.
export function rows(body, items, key, cells, empty) {
  const width = body.parentElement.tHead.rows[0].cells.length;
  const list = items.length ? items : [null];
  keyed(body, list, (x) => (x ? key(x) : "none"), () => h("tr"), (tr, x) => {
    const want = x ? cells(x) : [{ t: empty, c: "muted", span: width }];
    while (tr.cells.length > want.length) tr.lastElementChild.remove();
    want.forEach((w, i) => {
      const cell = typeof w === "object" ? w : { t: w };
      let td = tr.cells[i];
      if (!td) tr.append((td = h("td")));
      text(td, cell.t);
      const n = body.parentElement.tHead.rows[0].cells[i].classList.contains("n") && !cell.span;
      attr(td, "class", [n && "n", cell.c].filter(Boolean).join(" ") || null);
      attr(td, "title", cell.title || null);
      attr(td, "colspan", cell.span || null);
    });
  });
}

export function duration(s) {
  if (!(s > 0)) return "–";
  if (s < 1e-3) return (s * 1e6).toFixed(0) + " µs";
  if (s < 1) return (s * 1e3).toFixed(s < 0.01 ? 2 : s < 0.1 ? 1 : 0) + " ms";
  if (s < 60) return s.toFixed(s < 10 ? 1 : 0) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return (i ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}

export function rate(x) {
  if (!(x > 0)) return "0";
  return x < 10 ? x.toFixed(1) : x < 1e4 ? String(Math.round(x)) : (x / 1e3).toFixed(1) + " k";
}

export function percent(part) {
  if (part >= 1) return "100 %";
  const p = Math.min(part * 100, 99.99);
  return (p >= 99 ? p.toFixed(2) : p >= 10 ? p.toFixed(1) : p.toFixed(2)) + " %";
}

// short is the end of an identity, which is what people call it.
export function short(id) {
  return (id || "").replace(/^spiffe:\/\/[^/]*\//, "") || id || "";
}

export const clock = (t) => new Date(t).toLocaleTimeString([], { hour12: false, hour: "2-digit", minute: "2-digit", second: "2-digit" });

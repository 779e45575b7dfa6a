// The page: it follows /events while it is looked at, and shows each frame.
import { $, h, text, attr } from "./dom.js";
import { follow, get, act, Refused } from "./live.js";
import { graph } from "./graph.js";
import { show, story, reloaded, tapped } from "./views.js";
import "./peers.js";

let paused = false, stop = null;

function live(state, words) {
  attr($("live"), "data-state", state);
  text($("live"), words);
}

// open tells why, once a story is opened.
async function open(s, at) {
  try {
    const found = (await (await get("/why?id=" + encodeURIComponent(s.id))).json()).stories.filter((x) => x.direction === s.direction);
    if (found.length) story(at, found[found.length - 1]);
    else at.append(h("p", { class: "muted" }, "It has been forgotten in favour of later ones."));
  } catch (err) {
    at.append(h("p", { class: "bad" }, err.message));
  }
}

// watch follows frames until it is stopped, and begins again when the stream breaks.
async function watch() {
  if (stop) return;
  const mine = (stop = new AbortController());
  let wait = 500;
  while (!mine.signal.aborted) {
    try {
      await follow("/events", (f) => {
        wait = 500;
        live("on", "live");
        show(f, open);
        graph($("graph"), f);
        attr(document.body, "data-frames", +(document.body.dataset.frames || 0) + 1);
      }, mine.signal);
      live("off", "the sidecar has stopped");
    } catch (err) {
      if (mine.signal.aborted) break;
      if (err instanceof Refused && err.status < 500) {
        live("off", err.status === 401 ? "needs the token" : err.message);
        stop = null;
        attr($("pause"), "aria-pressed", "true");
        text($("pause"), "Try again");
        paused = true;
        return;
      }
      live("off", "no answer, trying again");
    }
    await new Promise((done) => setTimeout(done, wait));
    wait = Math.min(wait * 2, 10000);
  }
}

function look() {
  const wanted = !paused && document.visibilityState === "visible";
  if (wanted) watch();
  else if (stop) {
    stop.abort();
    stop = null;
    live("off", paused ? "paused" : "not looked at");
  }
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  attr($("pause"), "aria-pressed", String(paused));
  text($("pause"), paused ? "Go on" : "Pause");
  look();
});
document.addEventListener("visibilitychange", look);

let tap = null;
$("tapform").addEventListener("submit", async (ev) => {
  ev.preventDefault();
  if (tap) return tap.abort();
  const mine = (tap = new AbortController());
  const q = new URLSearchParams([...new FormData($("tapform"))].filter(([, v]) => v.trim()).map(([k, v]) => [k, v.trim()]));
  q.set("rate", "20");
  $("taprows").replaceChildren();
  text($("tapbutton"), "Stop");
  text($("tapsays"), "Watching; at most 20 a second are shown.");
  let says = "Stopped.";
  try {
    await follow("/tap?" + q, tapped, mine.signal);
  } catch (err) {
    if (!mine.signal.aborted) says = err.message;
  }
  tap = null;
  text($("tapbutton"), "Start");
  text($("tapsays"), says);
});

$("config").addEventListener("toggle", async () => {
  if (!$("config").open) return;
  try {
    text($("configtext"), await (await get("/config")).text());
  } catch (err) {
    text($("configtext"), err.message);
  }
});

async function reload(apply) {
  try {
    const r = apply ? await act("/reload") : await get("/reload").catch((err) => { if (err.status !== 422) throw err; return new Response(err.message); });
    reloaded($("reloadsays"), await r.json(), apply);
  } catch (err) {
    $("reloadsays").replaceChildren(h("p", { class: "notice bad" }, err.message));
  }
}
$("reloadcheck").addEventListener("click", () => reload(false));
$("reload").addEventListener("click", () => reload(true));

look();

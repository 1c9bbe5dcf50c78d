// The frame: which view is shown, one poll that all of them live on, and what is said when the node is not there.

import { Trouble, get, token } from "./api.js";
import { askForToken } from "./dialogs.js";
import { attr, button, h, text } from "./dom.js";
import * as f from "./format.js";
import { Model } from "./model.js";
import { deployments } from "./deployments.js";
import { invocations } from "./invocations.js";
import { live } from "./live.js";
import { logs } from "./logs.js";
import { memory } from "./memory.js";
import { nodes } from "./nodes.js";

const EVERY_MS = 2000;
const AGAIN_MAX_MS = 15000;
const VIEWS = { live: ["Live", live], invocations: ["Invocations", invocations], memory: ["Memory", memory], deployments: ["Deployments", deployments], nodes: ["Nodes", nodes], logs: ["Logs", logs] };

const at = (id) => document.getElementById(id);
const model = new Model();
let view = null;
let timer = 0;
let failures = 0;
let paused = false;
let asking = false;
let polling = false;

// ---- where we are ----

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const name = Object.hasOwn(VIEWS, path) ? path : "live";
  return { name, params: new URLSearchParams(query ?? "") };
}

/** Goes to a view with these parameters; those that are `undefined` stay as they are, `null` goes away. */
export function go(name, changes = {}, replace = false) {
  const { params } = place();
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) params.delete(key);
    else if (value !== undefined) params.set(key, value);
  }
  const query = params.toString();
  const hash = `#/${name}${query ? `?${query}` : ""}`;
  if (replace) {
    history.replaceState(null, "", hash);
    route();
  } else location.hash = hash;
}

function route() {
  const { name, params } = place();
  for (const link of at("views").querySelectorAll("a")) attr(link, "aria-current", link.dataset.view === name ? "page" : null);
  if (!view || view.name !== name) {
    view?.end?.();
    view = VIEWS[name][1]({ go, model, again: poll });
    view.name = name;
    at("main").replaceChildren(view.element);
    document.title = `${VIEWS[name][0]} · Baton`;
  }
  view.update(model, params);
  // What a view asks for itself comes with the next poll, which is now.
  if (model.overview) poll();
}

// ---- the poll ----

async function poll() {
  clearTimeout(timer);
  if (polling || asking || document.hidden) return;
  polling = true;
  try {
    if (!token.get()) throw new Trouble("token", "no token yet");
    const overview = await get("/v1/overview");
    failures = 0;
    model.take(overview);
    banner();
    status();
    view.update(model, place().params);
    await view.tick?.();
  } catch (trouble) {
    await failed(trouble);
  } finally {
    polling = false;
  }
  if (!paused) timer = setTimeout(poll, failures === 0 ? EVERY_MS : Math.min(EVERY_MS * 2 ** (failures - 1), AGAIN_MAX_MS));
}

async function failed(trouble) {
  if (!(trouble instanceof Trouble)) throw trouble;
  if (trouble.kind === "token") {
    asking = true;
    const had = token.get() !== "";
    token.forget();
    status();
    await askForToken(had);
    asking = false;
    failures = 0;
    setTimeout(poll);
    return;
  }
  failures += 1;
  banner(trouble);
  status();
}

function banner(trouble) {
  const box = at("banner");
  if (!trouble) {
    box.replaceChildren();
    return;
  }
  const gone = trouble.kind === "gone";
  const says = gone ? "The node does not answer. What is shown is what it said last." : [trouble.message, trouble.hint].filter(Boolean).join(": ");
  // Said once, not at each try: screen readers read alerts aloud.
  if (box.firstChild?.textContent !== says) box.replaceChildren(h("span", {}, says), button("Try now", poll, "small"));
}

function status() {
  const { overview } = model;
  const box = at("status");
  const state = () => {
    if (asking || !token.get()) return ["warn", "no token"];
    if (failures > 0) return ["bad", "not reachable"];
    if (paused) return ["warn", "paused"];
    return overview ? ["good", "live"] : ["", "…"];
  };
  const [kind, word] = state();
  if (box.childElementCount === 0) box.append(h("i", { class: "dot" }), h("span", {}), h("span", { class: "more dim" }));
  attr(box.children[0], "class", `dot ${kind}`);
  text(box.children[1], word);
  // Not the time it has run: a status that changes is read aloud.
  text(box.children[2], overview ? `${overview.cluster ? `${overview.cluster.node} · ` : ""}${overview.node.version}` : "");
  attr(box, "title", overview ? `up ${f.span(overview.node.uptime_s)}, process ${overview.node.pid}, gateway ${overview.node.gateway}` : null);
}

function pause() {
  paused = !paused;
  attr(at("pause"), "aria-pressed", paused);
  status();
  if (paused) clearTimeout(timer);
  else poll();
}

// ---- colours ----

const THEMES = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "☀", dark: "☾" };

function theme(wanted) {
  const known = THEMES.includes(wanted) ? wanted : "system";
  if (known === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = known;
  text(at("theme"), SIGNS[known]);
  attr(at("theme"), "aria-label", `Colours: ${known === "system" ? "as the system" : known}`);
  attr(at("theme"), "title", `Colours: ${known === "system" ? "as the system" : known}`);
  return known;
}

function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  localStorage.setItem("baton-theme", theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]));
}

// ---- start ----

theme(localStorage.getItem("baton-theme"));
at("views").append(...Object.entries(VIEWS).map(([name, [title]]) => h("li", {}, h("a", { href: `#/${name}`, "data-view": name }, title))));
at("pause").addEventListener("click", pause);
at("theme").addEventListener("click", nextTheme);
// The place in the address belongs to views; the way past the bar is not a place.
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); at("main").focus(); });
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) poll(); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, dialog")) return;
  const field = document.querySelector("main input[type=search]");
  if (!field) return;
  event.preventDefault();
  field.focus();
});
status();
route();
poll();

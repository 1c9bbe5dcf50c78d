// What functions write, as it comes.

import { get } from "./api.js";
import { button, h } from "./dom.js";
import * as f from "./format.js";
import { appChoice, card, heading, searchField } from "./scope.js";

/** Lines that are kept in the page; older ones are dropped. */
const KEPT = 2000;
const PAGES_AT_ONCE = 4;
const LEVELS = ["error", "warn", "info", "debug", "out"];

export function logs({ go, model, again }) {
  const state = { after: 0, lines: [], scope: "", words: "", level: "", app: null, fn: null };
  const choice = appChoice(go, "logs", true);
  const level = h("select", { onchange: () => { state.level = level.value; redraw(); } }, h("option", { value: "" }, "All levels"), LEVELS.map((name) => h("option", { value: name }, name)));
  const field = searchField("Search lines", (words) => { state.words = words; redraw(); });
  const whole = button("Whole app", () => go("logs", { fn: null }), "small");
  const head = heading("Logs", choice.element, h("label", { class: "field" }, "Level", level), field);
  const box = h("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Log lines", tabindex: "0" });
  const none = h("p", { class: "empty" }, "Nothing was written yet.");
  const logCard = card("Tail", [whole, button("Clear", () => { state.lines = []; redraw(); }, "small")], box);
  box.append(none);

  const fits = (line) => (!state.level || line.level === state.level)
    && (!state.words || line.message.toLowerCase().includes(state.words) || `${line.app}/${line.function}`.includes(state.words) || line.invocation === state.words);

  // A level is one of a few words or nothing: it becomes a class.
  const drawn = (line) => h("div", { class: `line ${LEVELS.includes(line.level) ? line.level : ""}` },
    h("span", { class: "time" }, f.clock(line.time_ms)), h("span", { class: "level" }, line.level),
    h("span", { class: "who" }, `${line.app}/${line.function}${line.holder > 0 ? `#${line.holder}` : ""}`), h("span", { class: "text" }, line.message));

  function note() {
    const shown = box.childElementCount - (none.isConnected ? 1 : 0);
    logCard.note(shown === state.lines.length ? f.plural(shown, "line") : `${shown} of ${f.plural(state.lines.length, "line")}`);
  }

  function redraw() {
    const lines = state.lines.filter(fits);
    none.textContent = state.lines.length > 0 ? "No line fits." : "Nothing was written yet.";
    box.replaceChildren(...(lines.length > 0 ? lines.map(drawn) : [none]));
    box.scrollTop = box.scrollHeight;
    note();
  }

  function add(lines) {
    // Who has scrolled up reads: then nothing moves.
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    state.lines.push(...lines);
    if (state.lines.length > KEPT) state.lines.splice(0, state.lines.length - KEPT);
    const wanted = lines.filter(fits);
    if (wanted.length > 0) {
      none.remove();
      box.append(...wanted.map(drawn));
      while (box.childElementCount > KEPT) box.firstChild.remove();
    }
    if (atEnd) box.scrollTop = box.scrollHeight;
    note();
  }

  return {
    element: h("div", {}, head.element, logCard.element),
    update(_, params) {
      state.app = params.get("app");
      state.fn = state.app ? params.get("fn") : null;
      choice.update(model.apps.map((app) => app.name), state.app);
      whole.classList.toggle("hidden", !state.fn);
      const scope = `${state.app ?? ""}/${state.fn ?? ""}`;
      if (scope === state.scope) return;
      Object.assign(state, { scope, after: 0, lines: [] });
      redraw();
      again();
    },
    async tick() {
      for (let page = 0; page < PAGES_AT_ONCE; page += 1) {
        const { scope } = state;
        const query = new URLSearchParams({ after: String(state.after) });
        if (state.app) query.set("app", state.app);
        if (state.fn) query.set("function", state.fn);
        const { lines, next } = await get(`/v1/logs?${query}`);
        if (scope !== state.scope) return;
        state.after = next;
        if (lines.length === 0) return;
        add(lines);
      }
    },
  };
}

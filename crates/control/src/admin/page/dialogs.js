// What the page asks people: for the token, and whether they mean it.

import { button, h } from "./dom.js";
import { Trouble, get, token } from "./api.js";

const dialog = () => document.getElementById("ask");

/** Opens the dialog with this content until `done` is called or it is dismissed; comes to what `done` was given. */
function open(title, build, dismissable = true) {
  const box = dialog();
  if (box.open) return Promise.resolve(null);
  return new Promise((resolve) => {
    let result = null;
    const done = (value) => { result = value; box.close(); };
    box.replaceChildren(h("h2", { id: "ask-title" }, title), ...build(done));
    box.oncancel = (event) => { if (!dismissable) event.preventDefault(); };
    box.onclose = () => { box.replaceChildren(); resolve(result); };
    box.showModal();
  });
}

/** Asks for the token until one is right; it is tried before it is kept. */
export function askForToken(wasWrong) {
  return open("Show the node’s token", (done) => {
    const field = h("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true, autofocus: true });
    const says = h("p", { class: "error", role: "alert" }, wasWrong ? "The token that this tab had is not this node’s." : "");
    const act = h("button", { type: "submit", class: "button primary" }, "Open the dashboard");
    const form = h("form", { onsubmit: async (event) => {
      event.preventDefault();
      act.disabled = true;
      token.set(field.value.trim());
      try {
        await get("/v1/node");
        done(true);
      } catch (trouble) {
        token.forget();
        says.textContent = trouble instanceof Trouble && trouble.kind === "token" ? "That is not this node’s token." : `${trouble.message}.`;
        act.disabled = false;
        field.select();
      }
    } },
    h("p", {}, "It is in the file ", h("code", {}, "token"), " of the node’s state directory: ", h("code", {}, "cat ~/.baton/token"), ", or below ", h("code", {}, "$BATON_HOME"), ". This tab keeps it until it is closed."),
    h("label", { class: "block", for: "token" }, "Token", field), says, h("div", { class: "actions" }, act));
    return [form];
  }, false);
}

/** Asks whether something is meant, saying what it does. */
export function confirm({ title, text, action, danger = false }) {
  return open(title, (done) => [
    h("p", {}, text),
    h("div", { class: "actions" }, button("Cancel", () => done(false)), button(action, () => done(true), danger ? "danger" : "primary")),
  ]);
}

/** Says what came of an action. */
export function tell(title, text) {
  return open(title, (done) => [h("p", {}, text), h("div", { class: "actions" }, button("Close", () => done(true), "primary"))]);
}

/** Asks, acts, and says what went wrong if something did. */
export async function perform(question, act) {
  if (question && !(await confirm(question))) return false;
  try {
    await act();
    return true;
  } catch (trouble) {
    await tell("That did not work", [trouble.message, trouble.hint].filter(Boolean).join(": "));
    return false;
  }
}

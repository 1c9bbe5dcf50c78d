// Talking to the node. The token lives in this tab's session storage and goes out in a header, never in an address.

const KEY = "baton-token";
const WITHIN_MS = 10000;

/** What went wrong, and which kind of wrong it is: `gone`, `token`, `absent`, or `refused`. */
export class Trouble extends Error {
  constructor(kind, message, hint = "") {
    super(message);
    this.kind = kind;
    this.hint = hint;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

function kindOf(status) {
  if (status === 401) return "token";
  return status === 404 || status === 405 ? "absent" : "refused";
}

async function ask(method, path, body, within = WITHIN_MS) {
  const headers = { authorization: `Bearer ${token.get()}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer;
  let content;
  try {
    const signal = AbortSignal.timeout(within);
    answer = await fetch(path, {
      method, headers, signal, credentials: "omit", cache: "no-store", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    content = await answer.text();
  } catch {
    throw new Trouble("gone", "the node does not answer");
  }
  let value = null;
  try {
    value = content ? JSON.parse(content) : null;
  } catch {
    value = null;
  }
  if (answer.ok) return value;
  throw new Trouble(kindOf(answer.status), value?.error ?? `the node answered ${answer.status}`, value?.hint ?? "");
}

export const get = (path) => ask("GET", path);

/** A change; starting replicas may take a while. */
export const change = (method, path, body) => ask(method, path, body, 120000);

/** A path of the API, every part escaped. */
export const path = (...parts) => `/v1/${parts.map(encodeURIComponent).join("/")}`;

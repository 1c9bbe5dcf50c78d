// Looks at the first bytes of a payload, and passes the payload itself on: it is not copied.
import { call } from "baton:data/calls@0.1.0";

const PNG = [0x89, 0x50, 0x4e, 0x47];

function kindOf(first) {
  if (PNG.every((byte, at) => first[at] === byte)) return "image/png";
  if (first.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127))) return "text/plain";
  return "application/octet-stream";
}

export const handler = {
  handle(request) {
    const { payload } = request;
    if (!payload) return { tag: "err", val: { status: 400, message: "there is nothing to describe" } };
    const first = payload.read(0n, 64n);
    const bytes = first.tag === undefined ? first : first.val;
    const header = ["x-kind", new TextEncoder().encode(kindOf(bytes))];
    const answer = call("check", { method: "POST", path: "/check", headers: [header], payload });
    const response = answer.tag === undefined ? answer : answer.val;
    if (answer.tag === "err") return answer;
    response.headers.push(header);
    return { tag: "ok", val: response };
  },
};

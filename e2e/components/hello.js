// A function by `wasi:http` 0.3 that knows nothing of Baton: says who it is and what it was asked.
import { Fields, Response } from "wasi:http/types@0.3.0";

let requests = 0;
const bytes = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const value = (result) => (result.tag === undefined ? result : result.val);
const trailersOf = () => wit.Future[Object.keys(wit.Future).find((name) => name.includes("OPTION"))];

export const handler = {
  async handle(request) {
    requests += 1;
    const told = { hello: "javascript", path: request.getPathWithQuery(), requests };
    const headers = value(Fields.fromList([["content-type", bytes("application/json")]]));
    const body = wit.Stream(wit.Stream.U8);
    const trailers = wit.Future(trailersOf());
    const [response] = Response.new(headers, body.readable, trailers.readable);
    const send = async () => {
      await body.writable.writeAll(bytes(JSON.stringify(told)));
      body.writable.drop();
      await trailers.writable.write({ tag: "ok", val: undefined });
    };
    send();
    return response;
  },
};

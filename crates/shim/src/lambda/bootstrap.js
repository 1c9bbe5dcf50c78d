// Runs a Node.js function for AWS Lambda: a client of the Runtime API without dependencies.
"use strict";
const http = require("node:http");
const path = require("node:path");
const fs = require("node:fs");
const { pathToFileURL } = require("node:url");

const env = process.env;
const root = env.LAMBDA_TASK_ROOT;
const [host, port] = env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
const STREAMING = Symbol.for("aws.lambda.runtime.handler.streaming");

globalThis.awslambda = {
  streamifyResponse: (handler) => Object.assign(handler, { [STREAMING]: true }),
  HttpResponseStream: {
    from(stream, prelude) {
      stream.setContentType("application/vnd.awslambda.http-integration-response");
      stream.write(JSON.stringify(prelude));
      stream.write(Buffer.alloc(8));
      return stream;
    },
  },
};

function ask(method, what, body, headers = {}) {
  return new Promise((done, failed) => {
    const length = body === undefined ? {} : { "Content-Length": Buffer.byteLength(body) };
    const options = { host, port, agent, method, path: "/2018-06-01/runtime/" + what, headers: { ...headers, ...length } };
    const request = http.request(options, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => done({ headers: answer.headers, body: Buffer.concat(parts) }));
      answer.on("error", failed);
    });
    request.on("error", failed);
    request.end(body);
  });
}

function told(error, kind) {
  const is = error instanceof Error;
  return {
    errorType: kind ?? (is ? error.name : typeof error),
    errorMessage: is ? error.message : String(error),
    trace: is && error.stack ? error.stack.split("\n") : [],
  };
}

async function load(name) {
  const dot = name.lastIndexOf(".");
  if (dot < 1) throw Object.assign(new Error("Bad handler"), { kind: "Runtime.MalformedHandlerName" });
  const [file, last] = [path.join(root, name.slice(0, dot)), name.slice(dot + 1)];
  const found = [".js", ".mjs", ".cjs", ""].map((end) => file + end).find((full) => fs.existsSync(full) && fs.statSync(full).isFile());
  if (!found) {
    throw Object.assign(new Error(`Cannot find module '${name.slice(0, dot)}'`), { kind: "Runtime.ImportModuleError" });
  }
  const loaded = await import(pathToFileURL(found));
  const handler = loaded[last] ?? loaded.default?.[last];
  if (typeof handler !== "function") {
    throw Object.assign(new Error(`${name} is undefined or not exported`), { kind: "Runtime.HandlerNotFound" });
  }
  return handler;
}

function contextOf(headers, settle) {
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const json = (name) => (headers[name] ? JSON.parse(headers[name]) : undefined);
  return {
    callbackWaitsForEmptyEventLoop: true,
    awsRequestId: headers["lambda-runtime-aws-request-id"],
    invokedFunctionArn: headers["lambda-runtime-invoked-function-arn"],
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: json("lambda-runtime-client-context"),
    identity: json("lambda-runtime-cognito-identity"),
    getRemainingTimeInMillis: () => Math.max(0, deadline - Date.now()),
    done: (error, result) => settle(error, result),
    succeed: (result) => settle(null, result),
    fail: (error) => settle(error ?? new Error("failed")),
  };
}

function called(handler, event, headers) {
  return new Promise((done, failed) => {
    const settle = (error, result) => (error === null || error === undefined ? done(result) : failed(error));
    const result = handler(event, contextOf(headers, settle), settle);
    if (result !== undefined && typeof result?.then === "function") result.then(done, failed);
    else if (handler.length < 3 && result !== undefined) done(result);
    else if (handler.length < 3) done(null);
  });
}

function streamed(handler, event, headers, id) {
  return new Promise((done, failed) => {
    let type = "application/octet-stream";
    let request;
    const { Writable } = require("node:stream");
    const begin = () => {
      request ??= http.request(
        {
          host, port, agent, method: "POST", path: `/2018-06-01/runtime/invocation/${id}/response`,
          headers: { "Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked", "Content-Type": type,
            Trailer: "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body" },
        },
        (answer) => { answer.resume(); answer.on("end", done); },
      );
      request.on("error", failed);
      return request;
    };
    const stream = new Writable({
      write(part, encoding, next) { begin().write(part, next); },
      final(next) { begin().end(); next(); },
    });
    stream.setContentType = (value) => { type = value; };
    Promise.resolve(handler(event, stream, contextOf(headers, () => {}))).catch((error) => {
      if (!request) return failed(error);
      const body = JSON.stringify(told(error));
      request.addTrailers({ "Lambda-Runtime-Function-Error-Type": told(error).errorType, "Lambda-Runtime-Function-Error-Body": Buffer.from(body).toString("base64") });
      request.end();
    });
  });
}

async function main() {
  let handler;
  try {
    handler = await load(env._HANDLER);
  } catch (error) {
    const fault = told(error, error?.kind);
    console.error(error);
    await ask("POST", "init/error", JSON.stringify(fault), { "Lambda-Runtime-Function-Error-Type": fault.errorType });
    process.exit(1);
  }
  for (;;) {
    const { headers, body } = await ask("GET", "invocation/next");
    const id = headers["lambda-runtime-aws-request-id"];
    if (headers["lambda-runtime-trace-id"]) env._X_AMZN_TRACE_ID = headers["lambda-runtime-trace-id"];
    try {
      const event = JSON.parse(body);
      if (handler[STREAMING]) {
        await streamed(handler, event, headers, id);
        continue;
      }
      const result = await called(handler, event, headers);
      await ask("POST", `invocation/${id}/response`, JSON.stringify(result === undefined ? null : result), { "Content-Type": "application/json" });
    } catch (error) {
      const fault = told(error);
      console.error(error);
      await ask("POST", `invocation/${id}/error`, JSON.stringify(fault), { "Lambda-Runtime-Function-Error-Type": fault.errorType });
    }
  }
}

main().catch((error) => { console.error(error); process.exit(1); });

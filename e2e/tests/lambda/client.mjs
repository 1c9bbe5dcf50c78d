// The unmodified AWS SDK for JavaScript v3 against the Lambda API of a node.
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const require = createRequire(process.env.LAMBDA_MODULES + "/");
const sdk = require("@aws-sdk/client-lambda");
const aws = new sdk.LambdaClient({ endpoint: process.env.LAMBDA_URL, region: "eu-west-1", maxAttempts: 1 });
const send = (Command, input) => aws.send(new sdk[Command + "Command"](input));
const zip = Buffer.from(process.env.PACKAGE, "base64");
const text = (payload) => JSON.parse(Buffer.from(payload).toString() || "null");
const encoded = (value) => Buffer.from(JSON.stringify(value));

const made = await send("CreateFunction", {
  FunctionName: "node-echo", Runtime: "nodejs20.x", Handler: "index.handler", Role: "arn:aws:iam::000000000000:role/any",
  Code: { ZipFile: zip }, Environment: { Variables: { GREETING: "hi" } },
});
assert.equal(made.State, "Active");
await sdk.waitUntilFunctionActiveV2({ client: aws, maxWaitTime: 10 }, { FunctionName: "node-echo" });
const answer = await send("Invoke", { FunctionName: "node-echo", Payload: encoded({ a: 1 }), LogType: "Tail" });
const body = text(answer.Payload);
assert.deepEqual([body.event, body.greeting, body.version], [{ a: 1 }, "hi", "$LATEST"]);
assert.equal(answer.$metadata.requestId, body.id);
assert.ok(Buffer.from(answer.LogResult, "base64").toString().includes("a line of the function"));
const failed = await send("Invoke", { FunctionName: "node-echo", Payload: encoded({ fail: true }) });
assert.equal(failed.FunctionError, "Unhandled");
assert.equal(text(failed.Payload).errorType, "RangeError");
assert.ok(text(failed.Payload).trace.some((line) => line.includes("index.js")));
assert.equal((await send("Invoke", { FunctionName: "node-echo", InvocationType: "DryRun" })).StatusCode, 204);
assert.equal((await send("Invoke", { FunctionName: "node-echo", InvocationType: "Event", Payload: encoded({}) })).StatusCode, 202);
assert.equal((await send("PublishVersion", { FunctionName: "node-echo" })).Version, "1");
await send("CreateAlias", { FunctionName: "node-echo", Name: "live", FunctionVersion: "1" });
assert.equal((await send("Invoke", { FunctionName: "node-echo:live", Payload: encoded(1) })).ExecutedVersion, "1");
await send("UpdateFunctionConfiguration", { FunctionName: "node-echo", Handler: "index.streamed" });
const streamed = await send("InvokeWithResponseStream", { FunctionName: "node-echo", Payload: encoded({}) });
let all = "";
let ended = false;
for await (const event of streamed.EventStream) {
  if (event.PayloadChunk) all += Buffer.from(event.PayloadChunk.Payload).toString();
  if (event.InvokeComplete) ended = event.InvokeComplete.ErrorCode === undefined;
}
assert.deepEqual([all, ended], ["part 0\npart 1\npart 2\n", true]);
await assert.rejects(send("GetFunction", { FunctionName: "gone" }), (error) => error.name === "ResourceNotFoundException" && /gone/.test(error.message));
await assert.rejects(send("GetPolicy", { FunctionName: "node-echo" }), (error) => error.name === "UnknownOperationException");
await send("DeleteFunction", { FunctionName: "node-echo" });
assert.deepEqual((await send("ListFunctions", {})).Functions, []);

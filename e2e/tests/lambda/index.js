exports.handler = async (event, context) => {
  console.log("a line of the function");
  if (event.fail) throw new RangeError("it broke");
  return { event, greeting: process.env.GREETING, version: context.functionVersion, id: context.awsRequestId };
};

exports.streamed = awslambda.streamifyResponse(async (event, out) => {
  for (let part = 0; part < 3; part++) out.write(`part ${part}\n`);
  out.end();
});

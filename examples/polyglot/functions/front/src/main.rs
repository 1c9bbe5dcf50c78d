//! Takes a payload from the world, and answers with what the others have made of it: native code in a compartment.

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};

fn main() -> ExitCode {
    baton::serve(async |ctx: Context, request: Request| {
        let payload = request
            .into_body()
            .map_err(|_| Error::new(400, "send something: `curl --data-binary @FILE …`"))?;
        let reply = ctx.call("describe", payload).method("POST").path("/describe").await?;
        let status = reply.status();
        let headers: Vec<_> =
            reply.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        let response = Response::ok(reply.into_body()?).status(status);
        Ok(headers.iter().fold(response, |response, (name, value)| response.header(name, value)))
    })
}

//! Scales a frame to the size that the later steps want, into a new buffer.

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};
use vision_pixels::{Size, Spent, number, scale};

fn main() -> ExitCode {
    baton::serve(resize)
}

async fn resize(ctx: Context, request: Request) -> Result<Response, Error> {
    let began = baton::monotonic_ns();
    let from = Size::of(&request)?;
    let to = number(&request, "size", 4096)?;
    let to = Size::new(to, to)?;
    let spent = Spent::of(&request);
    let mut frame = ctx.alloc(to.bytes())?;
    scale(request.body(), from, to, |row| frame.extend_from_slice(row))?;
    // Its buffer goes back to the pool before the next steps ask for any.
    drop(request);
    let spent = spent.and("resize", began);
    let answer = ctx
        .call("filter", frame)
        .header("x-width", to.width.to_string())
        .header("x-height", to.height.to_string())
        .header("x-spent", spent.as_str())
        .await?;
    let spent = answer.header("x-spent").unwrap_or_default().to_owned();
    Ok(Response::ok(answer.into_body()?).header("x-spent", spent))
}

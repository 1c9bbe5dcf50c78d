//! Adds up one part of each mapper, where it lies. Is given what leads to them, and answers with one part.

use std::process::ExitCode;

use baton::{Context, Error, Reference, Request, Response};
use wordcount_words::{Counts, entry_front, entry_len};

/// Bytes of a reference.
const REFERENCE: usize = 96;

fn main() -> ExitCode {
    baton::serve(reduce)
}

async fn reduce(ctx: Context, request: Request) -> Result<Response, Error> {
    let mut counts = Counts::default();
    for reference in request.body().chunks(REFERENCE) {
        let part = ctx.get(&Reference::from_bytes(reference)?).await?;
        counts.add_part(&part).map_err(|_| Error::new(400, "what a mapper put up is no part"))?;
    }
    let size = counts.iter().map(|(word, _)| entry_len(word)).sum::<usize>();
    let mut sums = ctx.alloc(size.max(1))?;
    for (word, count) in counts.iter() {
        sums.extend_from_slice(&entry_front(word, count))?;
        sums.extend_from_slice(word)?;
    }
    Ok(Response::ok(sums))
}

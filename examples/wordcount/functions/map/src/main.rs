//! Counts the words of a range of the text, and puts the counts up in parts: one for each reducer. Answers with what leads
//! to them.

use std::process::ExitCode;

use baton::{Buffer, Context, Error, Request, Response};
use wordcount_words::{Counts, PARTS, entry_front, entry_len, part_of};

fn main() -> ExitCode {
    baton::serve(map)
}

async fn map(ctx: Context, request: Request) -> Result<Response, Error> {
    // The text lies where it was written or received; this is a view of a range of it.
    let counts = Counts::of(request.body());
    let mut references = Vec::new();
    for part in parts(&ctx, &counts)? {
        references.extend_from_slice(ctx.put(part).await?.as_bytes());
    }
    Ok(Response::ok(references))
}

fn parts(ctx: &Context, counts: &Counts) -> Result<Vec<Buffer>, Error> {
    let mut sizes = [0; PARTS];
    for (word, _) in counts.iter() {
        if let Some(size) = sizes.get_mut(part_of(word)) {
            *size += entry_len(word);
        }
    }
    // A part may be empty; a buffer is not.
    let mut parts = sizes.iter().map(|size| ctx.alloc((*size).max(1))).collect::<Result<Vec<_>, _>>()?;
    for (word, count) in counts.iter() {
        if let Some(part) = parts.get_mut(part_of(word)) {
            part.extend_from_slice(&entry_front(word, count))?;
            part.extend_from_slice(word)?;
        }
    }
    Ok(parts)
}

//! Has the words of a text counted: shares a range of it with each mapper, and gives each reducer what leads to its parts.

use std::fmt::Write;
use std::process::ExitCode;

use baton::{Body, Context, Error, Request, Response};
use wordcount_words::{Counts, PARTS, cut};

const MAPPERS: usize = 8;
/// Bytes of a reference.
const REFERENCE: usize = 96;
/// Words that are told.
const TOLD: usize = 20;

fn main() -> ExitCode {
    baton::serve(count)
}

async fn count(ctx: Context, request: Request) -> Result<Response, Error> {
    let began = baton::monotonic_ns();
    let Some(text) = text(&ctx, request).await? else {
        return Err(Error::new(400, "there is no text: send one, or GET ?megabytes=64"));
    };
    let text = text.into_shared()?;
    let written = baton::monotonic_ns();
    let parts = ctx.scatter("map", &text, cut(text.bytes()?, MAPPERS)).await?;
    let parts = parts.into_iter().map(|part| part.map(|reply| reply.body().to_vec()));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let mapped = baton::monotonic_ns();
    let of_reducer = |number: usize| -> Vec<u8> {
        let of_mapper = |references: &Vec<u8>| references.chunks(REFERENCE).nth(number).map(<[u8]>::to_vec);
        parts.iter().filter_map(of_mapper).flatten().collect()
    };
    let mut counts = Counts::default();
    for sums in ctx.join((0..PARTS).map(|number| ctx.call("reduce", of_reducer(number)))).await {
        let sums = sums?;
        counts.add_part(sums.body()).map_err(|_| Error::new(502, "what a reducer answered is no part"))?;
    }
    let reduced = baton::monotonic_ns();
    let times = [("write_ms", began, written), ("map_ms", written, mapped), ("reduce_ms", mapped, reduced)];
    Ok(Response::ok(report(text.len(), &counts, &times)).header("content-type", "application/json"))
}

/// What was sent, if anything was, or what `write` makes of the query.
async fn text(ctx: &Context, request: Request) -> Result<Option<Body>, Error> {
    if request.method() == "GET" {
        let query = request.query().unwrap_or_default().to_owned();
        return ctx.call("write", ()).method("GET").query(&query).await?.into_body().map(Some);
    }
    if request.body().is_empty() { Ok(None) } else { request.into_body().map(Some) }
}

fn report(bytes: usize, counts: &Counts, times: &[(&str, u64, u64)]) -> String {
    let words: u64 = counts.iter().map(|(_, count)| count).sum();
    let mut json = format!("{{\"bytes\":{bytes},\"words\":{words},\"distinct\":{}", counts.distinct());
    for (what, from, to) in times {
        // Writing to a string does not fail.
        let _ = write!(json, ",\"{what}\":{}", (to - from) / 1_000_000);
    }
    json.push_str(",\"most_frequent\":[");
    for (number, (word, count)) in counts.most_frequent(TOLD).into_iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let word = String::from_utf8_lossy(word);
        let _ = write!(json, "{comma}[\"{}\",{count}]", escaped(&word));
    }
    json.push_str("]}\n");
    json
}

fn escaped(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for letter in word.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out
}

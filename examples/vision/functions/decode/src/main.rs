//! Takes a PNG file, decodes it into a frame of the pool, and sends the frame on its way. The answer of the last step comes
//! back here, and is told how long all of it took.

use std::fmt::Write;
use std::io::Cursor;
use std::process::ExitCode;

use baton::{Body, Buffer, Context, Error, Request, Response};
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use vision_pixels::{PIXEL, Size, Spent};

/// Memory of the decoder itself, in bytes.
const DECODER_MAX: usize = 64 << 20;

fn main() -> ExitCode {
    baton::serve(decode)
}

async fn decode(ctx: Context, request: Request) -> Result<Response, Error> {
    let wanted = request.query().unwrap_or_default().to_owned();
    let file = file(&ctx, request, &wanted).await?;
    let began = baton::monotonic_ns();
    let (frame, size) = frame(&ctx, &file)?;
    drop(file);
    let spent = Spent::default().and("decode", began);
    let answer = ctx
        .call("resize", frame)
        .query(&wanted)
        .header("x-width", size.width.to_string())
        .header("x-height", size.height.to_string())
        .header("x-spent", spent.as_str())
        .await?;
    let total = (baton::monotonic_ns() - began) / 1000;
    let spent = Spent::told(answer.header("x-spent").unwrap_or_default());
    let report = String::from_utf8_lossy(answer.body()).into_owned();
    Ok(Response::ok(told(&report, &spent, total)).header("content-type", "application/json"))
}

/// What was sent, or a picture that `scene` draws.
async fn file(ctx: &Context, request: Request, wanted: &str) -> Result<Body, Error> {
    if request.method() == "GET" {
        return ctx.call("scene", ()).method("GET").query(wanted).await?.into_body();
    }
    if request.body().is_empty() {
        return Err(Error::new(400, "there is no picture: send a PNG file, or GET ?seed=1"));
    }
    request.into_body()
}

/// The pixels of a PNG file, whatever it has: grey, palette, 16 bits, no opacity.
fn frame(ctx: &Context, file: &[u8]) -> Result<(Buffer, Size), Error> {
    let bad = |error: png::DecodingError| Error::new(400, format!("that is no good PNG file: {error}"));
    let mut decoder = Decoder::new_with_limits(Cursor::new(file), Limits { bytes: DECODER_MAX });
    decoder.set_transformations(Transformations::normalize_to_color8() | Transformations::ALPHA);
    let mut reader = decoder.read_info().map_err(bad)?;
    let info = reader.info();
    let side = |pixels: u32| usize::try_from(pixels).unwrap_or(usize::MAX);
    let size = Size::new(side(info.width), side(info.height))?;
    if info.interlaced {
        return Err(Error::new(415, "interlaced files are not read: their rows come in no order"));
    }
    let (colour, BitDepth::Eight) = reader.output_color_type() else {
        return Err(Error::new(415, "a pixel of that file is none of 8 bits"));
    };
    let mut frame = ctx.alloc(size.bytes())?;
    let mut wide = Vec::with_capacity(size.width * PIXEL);
    while let Some(row) = reader.next_row().map_err(bad)? {
        match colour {
            ColorType::Rgba => frame.extend_from_slice(row.data())?,
            ColorType::GrayscaleAlpha => {
                wide.clear();
                wide.extend(row.data().chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]));
                frame.extend_from_slice(&wide)?;
            }
            _ => return Err(Error::new(415, "the pixels of that file have no opacity")),
        }
    }
    match frame.len() == size.bytes() {
        true => Ok((frame, size)),
        false => Err(Error::new(400, "that PNG file ends before its last row")),
    }
}

/// The report with the times: what each step computed for, and what was left for everything else, in milliseconds.
fn told(report: &str, spent: &Spent, total: u64) -> String {
    let computed: u64 = spent.steps().map(|(_, spent)| spent).sum();
    let ms = |us: u64| format!("{}.{:03}", us / 1000, us % 1000);
    let moving = ms(total.saturating_sub(computed));
    let mut json =
        format!("{{\"report\":{},\"total_ms\":{},\"moving_ms\":{moving}", report.trim(), ms(total));
    json.push_str(",\"steps_ms\":{");
    for (number, (step, spent)) in spent.steps().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(json, "{comma}\"{step}\":{}", ms(spent));
    }
    json.push_str("}}\n");
    json
}

//! Puts marks on a frame where `feature` found something, and says what is to be seen: JSON with a small picture in it.

use std::fmt::Write;
use std::process::ExitCode;

use baton::{Context, Error, Request, Response};
use vision_pixels::{PIXEL, Size, Spent, scale};

/// The sides of the small picture.
const SMALL: usize = 64;
/// The colour of marks.
const MARK: [u8; PIXEL] = [255, 0, 255, 255];

fn main() -> ExitCode {
    baton::serve(report)
}

async fn report(_ctx: Context, request: Request) -> Result<Response, Error> {
    let began = baton::monotonic_ns();
    let size = Size::of(&request)?;
    let features = request.header("x-features").unwrap_or("{}").to_owned();
    let marks = marks(request.header("x-marks").unwrap_or_default());
    let spent = Spent::of(&request);
    let mut frame = request.into_body()?;
    let mut drawn = 0;
    let pixels = frame.bytes_mut()?;
    for (x, y, side) in marks {
        drawn += usize::from(draw(pixels, size, (x, y), side));
    }
    let small = small(&frame, size)?;
    let json = format!(
        "{{\"width\":{},\"height\":{},\"marks\":{drawn},\"features\":{features},\"small_png\":\"{}\"}}",
        size.width,
        size.height,
        base64(&small)
    );
    Ok(Response::ok(json).header("x-spent", spent.and("report", began).as_str()))
}

/// Marks as they come: `x:y:side` in pixels, commas between.
fn marks(told: &str) -> Vec<(usize, usize, usize)> {
    let mark = |mark: &str| {
        let mut parts = mark.split(':').map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??, parts.next()??))
    };
    told.split(',').filter_map(mark).collect()
}

/// Draws the edges of a square; `false` if it does not lie in the frame.
fn draw(pixels: &mut [u8], size: Size, (x, y): (usize, usize), side: usize) -> bool {
    let fits = |at: usize, most: usize| at.checked_add(side).is_some_and(|end| end <= most);
    if side == 0 || !fits(x, size.width) || !fits(y, size.height) {
        return false;
    }
    let mut dot = |x: usize, y: usize| {
        let at = (y * size.width + x) * PIXEL;
        if let Some(pixel) = pixels.get_mut(at..at + PIXEL) {
            pixel.copy_from_slice(&MARK);
        }
    };
    for along in 0..side {
        dot(x + along, y);
        dot(x + along, y + side - 1);
        dot(x, y + along);
        dot(x + side - 1, y + along);
    }
    true
}

fn small(frame: &[u8], size: Size) -> Result<Vec<u8>, Error> {
    let failed = |error: png::EncodingError| Error::new(500, error.to_string());
    let to = Size { width: SMALL, height: SMALL };
    let mut rows = Vec::with_capacity(to.bytes());
    scale(frame, size, to, |row| {
        rows.extend_from_slice(row);
        Ok::<_, Error>(())
    })?;
    let mut file = Vec::new();
    let side = u32::try_from(SMALL).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Rgba);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&rows).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap_or(0);
            let digit = DIGITS.get(digit).copied().unwrap_or(b'A');
            // Writing to a string does not fail.
            let _ = text.write_char(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

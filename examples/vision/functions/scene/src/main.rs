//! Draws a picture for the pipeline to look at: a sky, hills, and discs of many sizes, as a PNG file.

use std::process::ExitCode;

use baton::{Context, Error, Request, Response};
use vision_pixels::{PIXEL, Size, number};

const DISCS: usize = 40;

fn main() -> ExitCode {
    baton::serve(scene)
}

async fn scene(ctx: Context, request: Request) -> Result<Response, Error> {
    let side = number(&request, "side", 3072)?;
    let size = Size::new(side, side)?;
    let picture = Picture::new(size, number(&request, "seed", 1)?);
    let mut file = ctx.alloc(size.bytes() + size.height + 4096)?;
    encode(&picture, &mut file).map_err(|error| Error::new(500, error.to_string()))?;
    Ok(Response::ok(file).header("content-type", "image/png"))
}

fn encode(picture: &Picture, file: impl std::io::Write) -> Result<(), png::EncodingError> {
    let side = |pixels| u32::try_from(pixels).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(file, side(picture.size.width), side(picture.size.height));
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    let mut stream = writer.stream_writer()?;
    let mut row = Vec::with_capacity(picture.size.width * PIXEL);
    for y in 0..picture.size.height {
        row.clear();
        (0..picture.size.width).for_each(|x| row.extend(picture.pixel(x, y)));
        std::io::Write::write_all(&mut stream, &row)?;
    }
    stream.finish()
}

struct Disc {
    x: usize,
    y: usize,
    radius: usize,
    colour: [u8; 3],
}

struct Picture {
    size: Size,
    discs: Vec<Disc>,
    hills: [usize; 3],
}

impl Picture {
    fn new(size: Size, seed: usize) -> Picture {
        let mut random = Random((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let disc = |_| Disc {
            x: random.below(size.width),
            y: random.below(size.height),
            radius: 1 + size.width / 200 + random.below(1 + size.width / 20),
            colour: [random.byte(), random.byte(), random.byte()],
        };
        let discs = (0..DISCS).map(disc).collect();
        let hills = [1 + random.below(7), 1 + random.below(5), 1 + random.below(3)];
        Picture { size, discs, hills }
    }

    fn pixel(&self, x: usize, y: usize) -> [u8; PIXEL] {
        let Size { width, height } = self.size;
        let hit = self.discs.iter().rev().find(|disc| {
            let (dx, dy) = (disc.x.abs_diff(x), disc.y.abs_diff(y));
            dx * dx + dy * dy <= disc.radius * disc.radius
        });
        let [red, green, blue] = match hit {
            Some(disc) => disc.colour,
            None if y > self.horizon(x) => [30, channel(60 + 120 * (height - y) / height), 40],
            None => {
                let light = 200 * y / height;
                [channel(40 + light), channel(80 + light / 2), channel(160 + 60 * x / width)]
            }
        };
        [red, green, blue, u8::MAX]
    }

    /// The row below which there are hills.
    fn horizon(&self, x: usize) -> usize {
        let Size { width, height } = self.size;
        let wave = |times: &usize| {
            let at = x * times * 2 % (2 * width);
            at.min(2 * width - at) * height / (width * 16 * times)
        };
        height / 2 + self.hills.iter().map(wave).sum::<usize>()
    }
}

fn channel(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// Xorshift: the same picture for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }

    fn byte(&mut self) -> u8 {
        channel(self.below(256))
    }
}

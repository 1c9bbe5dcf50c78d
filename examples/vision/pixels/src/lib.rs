//! Frames, and what travels beside them.
//!
//! A frame is `height` rows of `width` pixels of 4 bytes: red, green, blue, opacity. Its size is told in the headers
//! `x-width` and `x-height` of the call that hands it on, and in `x-spent` what each step has computed for so far.

use std::fmt::Write;

use baton::{Error, Request};

/// Bytes of a pixel.
pub const PIXEL: usize = 4;
/// The longest side of a frame.
pub const SIDE_MAX: usize = 16_384;

/// How large a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    /// A size within bounds.
    ///
    /// # Errors
    /// 413 for a side of more than [`SIDE_MAX`], 400 for one of 0.
    pub fn new(width: usize, height: usize) -> Result<Size, Error> {
        match (width, height) {
            (0, _) | (_, 0) => Err(Error::new(400, "a frame has at least one pixel")),
            (1..=SIDE_MAX, 1..=SIDE_MAX) => Ok(Size { width, height }),
            _ => Err(Error::new(413, format!("a side of a frame has at most {SIDE_MAX} pixels"))),
        }
    }

    /// The size of the frame that came.
    ///
    /// # Errors
    /// 400 if it is not told, or the frame has another one.
    pub fn of(request: &Request) -> Result<Size, Error> {
        let side = |name| request.header(name).and_then(|value| value.parse().ok());
        let (Some(width), Some(height)) = (side("x-width"), side("x-height")) else {
            return Err(Error::new(400, "x-width and x-height say how large a frame is"));
        };
        let size = Size::new(width, height)?;
        let (is, wanted) = (request.body().len(), size.bytes());
        match is == wanted {
            true => Ok(size),
            false => Err(Error::new(400, format!("{width} x {height} pixels are {wanted} bytes, not {is}"))),
        }
    }

    /// Bytes of a frame.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.width * self.height * PIXEL
    }
}

/// How long each step has computed, as `name=microseconds` with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent(String);

impl Spent {
    /// What the steps before this one have spent.
    #[must_use]
    pub fn of(request: &Request) -> Spent {
        Spent(request.header("x-spent").unwrap_or_default().to_owned())
    }

    /// What an answer says.
    #[must_use]
    pub fn told(value: &str) -> Spent {
        Spent(value.to_owned())
    }

    /// Adds a step that began at `began` on [`baton::monotonic_ns`] and ends now.
    #[must_use]
    pub fn and(mut self, step: &str, began: u64) -> Spent {
        let comma = if self.0.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{comma}{step}={}", (baton::monotonic_ns() - began) / 1000);
        self
    }

    /// As it is told.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Each step and its microseconds.
    pub fn steps(&self) -> impl Iterator<Item = (&str, u64)> {
        let pairs = self.0.split(',').filter_map(|step| step.split_once('='));
        pairs.filter_map(|(step, spent)| Some((step, spent.parse().ok()?)))
    }
}

/// Scales a frame by linear interpolation, row by row into `write`.
///
/// # Errors
/// What `write` gives.
pub fn scale<E>(
    frame: &[u8],
    from: Size,
    to: Size,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let columns: Vec<(usize, usize, u32)> = (0..to.width).map(|x| between(x, to.width, from.width)).collect();
    let stride = from.width * PIXEL;
    let row_at = |y: usize| frame.get(y * stride..(y + 1) * stride).unwrap_or_default();
    let mut blended = vec![0; stride];
    let mut row = vec![0; to.width * PIXEL];
    for y in 0..to.height {
        let (above, below, share) = between(y, to.height, from.height);
        for ((out, a), b) in blended.iter_mut().zip(row_at(above)).zip(row_at(below)) {
            *out = blend(*a, *b, share);
        }
        for (out, &(left, right, share)) in row.chunks_exact_mut(PIXEL).zip(&columns) {
            let pixel = |x: usize| blended.get(x * PIXEL..(x + 1) * PIXEL).unwrap_or_default();
            for ((out, a), b) in out.iter_mut().zip(pixel(left)).zip(pixel(right)) {
                *out = blend(*a, *b, share);
            }
        }
        write(&row)?;
    }
    Ok(())
}

/// Which two of `from` places lie around the `at`-th of `to`, and the share of the second in 256ths.
fn between(at: usize, to: usize, from: usize) -> (usize, usize, u32) {
    let last = from - 1;
    let scaled = (2 * at + 1) * from * 128 / to;
    let centred = scaled.saturating_sub(128);
    let first = (centred / 256).min(last);
    (first, (first + 1).min(last), u32::try_from(centred % 256).unwrap_or(0))
}

fn blend(a: u8, b: u8, share: u32) -> u8 {
    let sum = u32::from(a) * (256 - share) + u32::from(b) * share + 128;
    u8::try_from(sum >> 8).unwrap_or(u8::MAX)
}

/// A number of a request's query.
///
/// # Errors
/// 400 for what is no whole number.
pub fn number(request: &Request, name: &str, otherwise: usize) -> Result<usize, Error> {
    let pairs = request.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.into_iter().find(|(key, _)| *key == name) else { return Ok(otherwise) };
    value.parse().map_err(|_| Error::new(400, format!("{name}: {value:?} is no whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scaled(frame: &[u8], from: Size, to: Size) -> Vec<u8> {
        let mut out = Vec::new();
        scale(frame, from, to, |row| {
            out.extend_from_slice(row);
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap();
        out
    }

    #[test]
    fn twice_as_large_lies_between() {
        let (from, to) = (Size { width: 2, height: 1 }, Size { width: 4, height: 1 });
        let out = scaled(&[0, 0, 0, 255, 100, 200, 40, 255], from, to);
        assert_eq!(out.chunks(4).map(|pixel| pixel[0]).collect::<Vec<_>>(), [0, 25, 75, 100]);
        assert_eq!(out.chunks(4).map(|pixel| pixel[3]).collect::<Vec<_>>(), [255; 4]);
    }

    #[test]
    fn what_was_spent_is_told_and_read() {
        let spent = Spent::told("decode=12,resize=7,broken");
        assert_eq!(spent.steps().collect::<Vec<_>>(), [("decode", 12), ("resize", 7)]);
    }

    proptest! {
        #[test]
        fn a_frame_stays_within_what_it_had(
            pixels in proptest::collection::vec(any::<[u8; 4]>(), 12),
            width in 1_usize..9,
            height in 1_usize..9,
        ) {
            let from = Size { width: 4, height: 3 };
            let frame: Vec<u8> = pixels.concat();
            let out = scaled(&frame, from, Size { width, height });
            prop_assert_eq!(out.len(), width * height * PIXEL);
            for channel in 0..PIXEL {
                let of = |bytes: &[u8]| -> Vec<u8> { bytes.chunks(PIXEL).map(|pixel| pixel[channel]).collect() };
                let (before, after) = (of(&frame), of(&out));
                prop_assert!(after.iter().min() >= before.iter().min());
                prop_assert!(after.iter().max() <= before.iter().max());
            }
            prop_assert_eq!(scaled(&frame, from, from), frame);
        }
    }
}

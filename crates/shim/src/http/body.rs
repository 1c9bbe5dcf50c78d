//! Bodies of answers, taken out of what frames them.
//!
//! ```text
//!   Length   ─ n ─▶ Done          Close ─ end of the connection ─▶ Done
//!   Size ── "hex\r\n" ──▶ Data(n) ── n ──▶ Gap ── "\r\n" ──▶ Size
//!     └── "0\r\n" ──▶ Trailers ── lines, then an empty one ──▶ Done
//! ```
//! What frames is read from the connection's own small buffer; what is body, from there as well as it came along, and otherwise by the
//! reader, straight to where it is to be.

use super::head::{BadHead, Framing};

/// Longest line of a chunk's size or of a trailer, and most bytes of trailers.
const LINE_BYTES_MAX: usize = 1024;
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Where in a body one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    Length(u64),
    Close,
    Size,
    Data(u64),
    Gap,
    Trailers(usize),
    Done,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Bytes of the body, at most so many.
    Body(u64),
    /// More must come before that is known.
    More,
    End,
}

impl Framed {
    pub(crate) fn new(framing: Framing) -> Framed {
        match framing {
            Framing::None => Framed::Done,
            Framing::Length(length) => Framed::Length(length),
            Framing::Chunked => Framed::Size,
            Framing::Close => Framed::Close,
        }
    }

    /// Reads framing at the start of `bytes`; gives how much of them that was.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<(Next, usize), BadHead> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match *self {
                Framed::Done | Framed::Length(0) => return Ok((Next::End, at)),
                Framed::Length(left) | Framed::Data(left) if left > 0 => return Ok((Next::Body(left), at)),
                Framed::Close => return Ok((Next::Body(u64::MAX), at)),
                Framed::Length(_) | Framed::Data(_) => *self = Framed::Gap,
                Framed::Gap => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        *self = Framed::Size;
                    }
                    [] | [b'\r'] => return Ok((Next::More, at)),
                    _ => return Err(BadHead("a chunk is longer than it says")),
                },
                Framed::Size => {
                    let Some(line) = line(rest)? else { return Ok((Next::More, at)) };
                    at += line.len() + 2;
                    *self = match size(line)? {
                        0 => Framed::Trailers(0),
                        size => Framed::Data(size),
                    };
                }
                Framed::Trailers(seen) => {
                    let Some(line) = line(rest)? else { return Ok((Next::More, at)) };
                    at += line.len() + 2;
                    let seen = seen + line.len();
                    if seen > TRAILER_BYTES_MAX {
                        return Err(BadHead("its trailers are longer than 16 KiB"));
                    }
                    *self = if line.is_empty() { Framed::Done } else { Framed::Trailers(seen) };
                }
            }
        }
    }

    /// So many bytes of body were taken.
    pub(crate) fn took(&mut self, count: u64) {
        match self {
            Framed::Length(left) | Framed::Data(left) => *left = left.saturating_sub(count),
            _ => {}
        }
    }

    /// The connection ended; whether the body had.
    pub(crate) fn end(&mut self) -> bool {
        let is_whole = matches!(self, Framed::Close | Framed::Done | Framed::Length(0));
        if is_whole {
            *self = Framed::Done;
        }
        is_whole
    }
}

/// The line at the start of `bytes`, without its end.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, BadHead> {
    match bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(end) => match bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")) {
            Some(line) => Ok(Some(line)),
            None => Err(BadHead("a line between its chunks ends oddly")),
        },
        None if bytes.len() >= LINE_BYTES_MAX => {
            Err(BadHead("a line between its chunks is longer than 1 KiB"))
        }
        None => Ok(None),
    }
}

/// The size that a line says; extensions count for nothing.
fn size(line: &[u8]) -> Result<u64, BadHead> {
    const BAD: BadHead = BadHead("the size of a chunk is no number");
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let digits = line.get(..end).unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BAD);
    }
    let text = core::str::from_utf8(digits).map_err(|_| BAD)?;
    u64::from_str_radix(text, 16).map_err(|_| BAD)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All of a chunked body, given in pieces of `step` bytes, and what is left behind it.
    fn decode(wire: &[u8], step: usize) -> Result<(Vec<u8>, bool), BadHead> {
        let (mut framed, mut buffer, mut body) = (Framed::Size, Vec::new(), Vec::new());
        let mut pieces = wire.chunks(step.max(1));
        loop {
            let (next, used) = framed.next(&buffer)?;
            buffer.drain(..used);
            match next {
                Next::End => return Ok((body, buffer.is_empty() && pieces.next().is_none())),
                Next::Body(most) if !buffer.is_empty() => {
                    let count = buffer.len().min(usize::try_from(most).unwrap());
                    body.extend(buffer.drain(..count));
                    framed.took(count as u64);
                }
                Next::Body(_) | Next::More => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => return Err(BadHead("it ended")),
                },
            }
        }
    }

    proptest! {
        #[test]
        fn chunks_come_together_however_they_are_cut(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1usize..50,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:X};x=y\r\n", chunk.len()).into_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\nchecksum: 1\r\n\r\n");
            prop_assert_eq!(decode(&wire, step), Ok((chunks.concat(), true)));
        }

        #[test]
        fn no_bytes_make_it_panic_or_run_forever(bytes in proptest::collection::vec(any::<u8>(), 0..200), step in 1usize..20) {
            let _ = decode(&bytes, step);
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bad in ["x\r\n", "-1\r\n", "\r\n", "1\r\nab\r\n", "1\nab", "10000000000000000\r\n"] {
            assert!(decode(bad.as_bytes(), 3).is_err_and(|bad| bad.0 != "it ended"), "{bad:?}");
        }
        assert_eq!(decode(b"2\r\nab", 9), Err(BadHead("it ended")));
        assert_eq!(
            decode("f".repeat(2000).as_bytes(), 100),
            Err(BadHead("a line between its chunks is longer than 1 KiB"))
        );
    }

    #[test]
    fn a_length_is_to_be_kept() {
        let mut framed = Framed::new(Framing::Length(3));
        assert_eq!(framed.next(b"abcd"), Ok((Next::Body(3), 0)));
        framed.took(2);
        assert!(!framed.end());
        framed.took(1);
        assert_eq!(framed.next(b"d"), Ok((Next::End, 0)));
        assert!(Framed::Close.end() && !Framed::Size.end());
    }
}

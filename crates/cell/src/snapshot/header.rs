//! The header of a snapshot's file: registers, pieces and library OS, so that a later process can bring the guest back.

use crate::arch::Context;
use crate::os::{Config, Os};
use crate::snapshot::{META_BYTES, Piece, Source, Stand};
use crate::sys::{self, Access, PAGE};
use crate::threads::Threads;

use baton_abi::cell::SEAT_BYTES;

/// What a file begins with; the last byte counts layouts.
const MAGIC: u64 = 0x424e_5053_4254_4e02;
/// Most pieces of a snapshot.
const PIECES_MAX: u64 = 1024;

struct Out(Vec<u8>);

impl Out {
    fn word(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn word(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.word()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// The header; `None` if the guest has several threads, or more to be said than there is room for.
pub(super) fn encode(base: u64, stand: &Stand, pieces: &[Piece], os: &Os) -> Option<Vec<u8>> {
    if !os.is_single() {
        return None;
    }
    let mut out = Out(Vec::new());
    out.word(MAGIC);
    out.word(base);
    out.bytes(&stand.context.to_bytes());
    out.word(stand.recv_at);
    out.word(stand.kept_at);
    out.word(pieces.len() as u64);
    for piece in pieces {
        let (kind, offset) = match piece.source {
            Source::Zeros => (0, 0),
            Source::File(offset) => (1, offset),
            Source::Elf(offset) => (2, offset),
        };
        let access = match piece.access {
            Access::None => 0,
            Access::Read => 1,
            Access::Write => 2,
            Access::Execute => return None,
        };
        for word in [piece.at, piece.len, access, kind, offset] {
            out.word(word);
        }
    }
    out.bytes(&os.save(sys::now_ns()));
    (out.0.len() as u64 <= META_BYTES).then_some(out.0)
}

/// What a header says, if it says something that can be.
pub(super) fn decode(head: &[u8], base: u64, size: u64, config: &Config) -> Option<(Stand, Vec<Piece>, Os)> {
    let mut words = In(head);
    if words.word()? != MAGIC || words.word()? != base {
        return None;
    }
    let context = Context::from_bytes(words.bytes()?)?;
    let (recv_at, kept_at) = (words.word()?, words.word()?);
    let count = words.word().filter(|count| *count <= PIECES_MAX)?;
    let mut pieces = Vec::new();
    let mut from = base;
    for _ in 0..count {
        let piece = piece(&mut words, size)?;
        let end = piece.at.checked_add(piece.len)?;
        if piece.at < from || end > base + SEAT_BYTES {
            return None;
        }
        from = end;
        pieces.push(piece);
    }
    let os = Os::load(config, words.bytes()?, sys::now_ns())?;
    Some((Stand { context, recv_at, kept_at, threads: Threads::default() }, pieces, os))
}

fn piece(words: &mut In<'_>, size: u64) -> Option<Piece> {
    let (at, len) = (words.word()?, words.word()?);
    let access = match words.word()? {
        0 => Access::None,
        1 => Access::Read,
        2 => Access::Write,
        _ => return None,
    };
    let (kind, offset) = (words.word()?, words.word()?);
    let whole = [at, len, offset].iter().all(|value| value.is_multiple_of(PAGE)) && len > 0;
    let source = match kind {
        0 => Source::Zeros,
        1 => Source::File(offset),
        // Only what nobody writes comes from the ELF file.
        2 if access == Access::Read => Source::Elf(offset),
        _ => return None,
    };
    let fits = kind != 1 || offset >= META_BYTES && offset.checked_add(len).is_some_and(|end| end <= size);
    (whole && fits).then_some(Piece { at, len, access, source })
}

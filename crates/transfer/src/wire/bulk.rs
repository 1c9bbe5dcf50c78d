//! Frames of a bulk lane, pieces excepted: their bytes go past this crate's memory.

use super::{Header, Kind, Reader, WireError, frame};
use crate::reference::Token;
use crate::vault::Refusal;

/// Bytes of the body of a pull.
pub const PULL_BYTES: usize = 32 + 4 * 8;
/// Bytes of the body of an acknowledgement.
pub const ACK_BYTES: usize = 32;

/// What a holder gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToHolder {
    /// Bytes wanted.
    Pull(Pull),
    /// Bytes more that may be sent.
    Credit(u64),
    /// Not wanted any more.
    Abort,
    /// A retrieval is done; its number is the frame's id.
    Ack(Token),
}

/// Bytes wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Of what.
    pub token: Token,
    /// The same for all pulls of one retrieval, over however many connections.
    pub retrieval: u64,
    /// From here.
    pub offset: u64,
    /// So many.
    pub len: u64,
    /// So many at first.
    pub window: u64,
}

/// Appends a pull.
pub fn put_pull(out: &mut Vec<u8>, id: u64, pull: &Pull) {
    frame(out, Kind::Pull, id, |out| {
        out.extend_from_slice(&pull.token.to_bytes());
        for field in [pull.retrieval, pull.offset, pull.len, pull.window] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    });
}

/// Appends bytes more that may be sent of a pull.
pub fn put_credit(out: &mut Vec<u8>, id: u64, bytes: u64) {
    frame(out, Kind::Credit, id, |out| out.extend_from_slice(&bytes.to_le_bytes()));
}

/// Appends the end of a pull.
pub fn put_abort(out: &mut Vec<u8>, id: u64) {
    frame(out, Kind::Abort, id, |_| {});
}

/// Appends an acknowledgement.
pub fn put_ack(out: &mut Vec<u8>, retrieval: u64, token: &Token) {
    frame(out, Kind::Ack, retrieval, |out| out.extend_from_slice(&token.to_bytes()));
}

/// How a pull ends without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The holder does not give them out, or not any more.
    Refused(Refusal),
    /// The receiver aborted it. Said once for each abort: nothing of the pull comes behind it.
    Aborted,
}

/// What stands for an abort where else a refusal's number stands.
const ABORTED: u8 = u8::MAX;

/// Appends an end.
pub fn put_end(out: &mut Vec<u8>, id: u64, end: End) {
    frame(out, Kind::End, id, |out| {
        out.push(match end {
            End::Refused(why) => why as u8,
            End::Aborted => ABORTED,
        });
    });
}

/// Reads what came for a holder.
///
/// # Errors
/// [`WireError`] naming the field.
pub fn to_holder(header: &Header, body: &[u8]) -> Result<ToHolder, WireError> {
    let mut reader = Reader(body);
    let frame = match header.kind {
        Kind::Pull => ToHolder::Pull(Pull {
            token: Token::from_bytes(reader.bytes32()?),
            retrieval: reader.u64()?,
            offset: reader.u64()?,
            len: reader.u64()?,
            window: reader.u64()?,
        }),
        Kind::Credit => ToHolder::Credit(reader.u64()?),
        Kind::Abort => ToHolder::Abort,
        Kind::Ack => ToHolder::Ack(Token::from_bytes(reader.bytes32()?)),
        _ => return Err(WireError::Field("kind")),
    };
    reader.end()?;
    Ok(frame)
}

/// Reads why a pull ended.
///
/// # Errors
/// [`WireError`] if it does not say.
pub fn end(body: &[u8]) -> Result<End, WireError> {
    let mut reader = Reader(body);
    let why = reader.u8()?;
    reader.end()?;
    if why == ABORTED {
        return Ok(End::Aborted);
    }
    Refusal::ALL.get(usize::from(why)).copied().map(End::Refused).ok_or(WireError::Field("why"))
}

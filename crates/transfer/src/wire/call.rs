//! Frames of a call lane.

use std::time::Duration;

use bytes::Bytes;

use super::{Header, Kind, Reader, WireError, frame, put_name};
use crate::limits::{CALL_TIME_MAX, HEAD_MAX, INLINE_MAX};
use crate::payload::{Answer, AnswerKind, Arrived, Incoming};
use crate::reference::{Reference, Token};

/// From this many bytes on a body is a part of what was read, not a copy of it.
const COPY_BELOW: usize = 4 * 1024;

/// What a callee gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToCallee {
    /// A call.
    Call(Incoming),
    /// Its end is wanted.
    Cancel,
    /// Are you there?
    Ping,
}

/// What a caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToCaller {
    /// The answer.
    Reply(Answer),
    /// Yes.
    Pong,
    /// No more calls.
    GoAway,
    /// Calls that may be out.
    Credit(u32),
}

fn put_body(out: &mut Vec<u8>, head: &[u8], body: &Arrived) {
    // Bounded by `HEAD_MAX` and `INLINE_MAX` where calls and answers are taken in.
    out.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(head);
    match body {
        Arrived::Empty => out.push(0),
        Arrived::Inline(bytes) => {
            out.push(1);
            out.extend_from_slice(bytes);
        }
        Arrived::Referenced(reference) => {
            out.push(2);
            out.extend_from_slice(&reference.token.to_bytes());
            out.extend_from_slice(&reference.len.to_le_bytes());
        }
    }
}

fn body(reader: &mut Reader<'_>, whole: &Bytes) -> Result<(Vec<u8>, Arrived), WireError> {
    let len = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    if len > HEAD_MAX {
        return Err(WireError::Field("head"));
    }
    let head = reader.take(len)?.to_vec();
    let body = match reader.u8()? {
        0 => Arrived::Empty,
        1 => {
            let bytes = reader.take(reader.0.len())?;
            if bytes.len() > INLINE_MAX {
                return Err(WireError::Field("body"));
            }
            let large = bytes.len() >= COPY_BELOW;
            Arrived::Inline(if large { whole.slice_ref(bytes) } else { Bytes::copy_from_slice(bytes) })
        }
        2 => {
            let token = Token::from_bytes(reader.bytes32()?);
            Arrived::Referenced(Reference { token, len: reader.u64()? })
        }
        _ => return Err(WireError::Field("body")),
    };
    reader.end()?;
    Ok((head, body))
}

/// Bytes of a frame with such a head and body, names aside: a guess that is not too small.
fn room_for(head: &[u8], body: &Arrived) -> usize {
    const FIXED: usize = 128;
    let inline = if let Arrived::Inline(bytes) = body { bytes.len() } else { 0 };
    FIXED + head.len() + inline
}

/// Appends a call.
pub fn put_call(out: &mut Vec<u8>, id: u64, call: &Incoming) {
    out.reserve(room_for(&call.head, &call.body) + call.app.len() + call.function.len());
    frame(out, Kind::Call, id, |out| {
        out.push(u8::from(call.record));
        out.extend_from_slice(&call.operation.to_le_bytes());
        out.extend_from_slice(&call.version.to_le_bytes());
        out.extend_from_slice(&call.invocation.to_le_bytes());
        let timeout = u64::try_from(call.timeout.as_micros()).unwrap_or(u64::MAX);
        out.extend_from_slice(&timeout.to_le_bytes());
        put_name(out, &call.app);
        put_name(out, &call.function);
        put_body(out, &call.head, &call.body);
    });
}

/// Appends an answer.
pub fn put_answer(out: &mut Vec<u8>, id: u64, answer: &Answer) {
    out.reserve(room_for(&answer.head, &answer.body));
    frame(out, Kind::Reply, id, |out| {
        out.extend_from_slice(&answer.status.to_le_bytes());
        out.push(match answer.kind {
            AnswerKind::Reply => 0,
            AnswerKind::FunctionError => 1,
            AnswerKind::Refused => 2,
            AnswerKind::Died => 3,
            AnswerKind::Cancelled => 4,
        });
        out.extend_from_slice(&answer.load.to_le_bytes());
        put_body(out, &answer.head, &answer.body);
    });
}

fn call(whole: &Bytes) -> Result<Incoming, WireError> {
    let mut reader = Reader(whole);
    let record = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(WireError::Field("record")),
    };
    let operation = reader.u16()?;
    let (version, invocation) = (reader.u64()?, reader.u64()?);
    let timeout = Duration::from_micros(reader.u64()?);
    if timeout > CALL_TIME_MAX {
        return Err(WireError::Field("timeout"));
    }
    let (app, function) = (reader.name("app")?.to_owned(), reader.name("function")?.to_owned());
    let (head, body) = body(&mut reader, whole)?;
    Ok(Incoming { app, function, version, invocation, operation, record, timeout, head, body })
}

fn answer(whole: &Bytes) -> Result<Answer, WireError> {
    let mut reader = Reader(whole);
    let status = reader.u16()?;
    let kind = match reader.u8()? {
        0 => AnswerKind::Reply,
        1 => AnswerKind::FunctionError,
        2 => AnswerKind::Refused,
        3 => AnswerKind::Died,
        4 => AnswerKind::Cancelled,
        _ => return Err(WireError::Field("kind")),
    };
    let load = reader.u32()?;
    let (head, body) = body(&mut reader, whole)?;
    Ok(Answer { status, kind, load, head, body })
}

/// Reads what came for a callee.
///
/// # Errors
/// [`WireError`] naming the field.
pub fn to_callee(header: &Header, body: &Bytes) -> Result<ToCallee, WireError> {
    match header.kind {
        Kind::Call => call(body).map(ToCallee::Call),
        Kind::Cancel => Ok(ToCallee::Cancel),
        Kind::Ping => Ok(ToCallee::Ping),
        _ => Err(WireError::Field("kind")),
    }
}

/// Reads what came for a caller.
///
/// # Errors
/// [`WireError`] naming the field.
pub fn to_caller(header: &Header, body: &Bytes) -> Result<ToCaller, WireError> {
    match header.kind {
        Kind::Reply => answer(body).map(ToCaller::Reply),
        Kind::Pong => Ok(ToCaller::Pong),
        Kind::GoAway => Ok(ToCaller::GoAway),
        Kind::Credit => {
            let mut reader = Reader(body);
            let calls = reader.u32()?;
            reader.end()?;
            Ok(ToCaller::Credit(calls))
        }
        _ => Err(WireError::Field("kind")),
    }
}

//! Encoding of a head: method, path, parameters and headers in front of, or beside, a payload.
//!
//! A head is a run of records, each `tag (1) | name length (1) | value length (2, little end first) | name | value`.
//! The reader never allocates, never panics and stops with an error at the first record that does not fit.

use crate::limits::HEAD_MAX_BYTES;

/// What a record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// Value: the HTTP method.
    Method = 1,
    /// Value: the path, percent-encoded as it came. In a call of [`crate::boot::NETWORK`]: the whole URL, `http` or `https`, with
    /// its query unless that comes by itself.
    Path = 2,
    /// Value: the query without its question mark.
    Query = 3,
    /// Name and value of a path parameter.
    Param = 4,
    /// Name (lower case) and value of a header.
    Header = 5,
    /// Value: who the client is, by a certificate that the gateway verified. Behind the headers, which cannot be taken for it.
    Identity = 6,
    /// Value: what of the request may be streamed, [`crate::stream`] says how.
    Stream = 7,
}

impl Field {
    const fn from_u8(raw: u8) -> Option<Field> {
        Some(match raw {
            1 => Field::Method,
            2 => Field::Path,
            3 => Field::Query,
            4 => Field::Param,
            5 => Field::Header,
            6 => Field::Identity,
            7 => Field::Stream,
            _ => return None,
        })
    }
}

/// One record of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it means.
    pub field: Field,
    /// Name, empty for fields that have none.
    pub name: &'a str,
    /// Value, any bytes for headers.
    pub value: &'a [u8],
}

/// Bytes of a record in front of its name.
pub const RECORD_PREFIX_BYTES: usize = 4;

/// Why a record could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// Name over 255 bytes or value over 65,535 bytes.
    RecordTooLong,
    /// The head would exceed the space that it has.
    Full,
}

/// Bytes that a record takes.
#[must_use]
pub const fn record_bytes(name: &str, value: &[u8]) -> usize {
    RECORD_PREFIX_BYTES + name.len() + value.len()
}

/// What stands in front of the name and the value of a record that begins at `at`, for who puts records one behind the other.
///
/// # Errors
/// [`EncodeError`] if no record holds them, or a head would be larger than it may be.
pub fn record_prefix(
    at: usize,
    field: Field,
    name: &[u8],
    value: &[u8],
) -> Result<[u8; RECORD_PREFIX_BYTES], EncodeError> {
    let name_len = u8::try_from(name.len()).map_err(|_| EncodeError::RecordTooLong)?;
    let value_len = u16::try_from(value.len()).map_err(|_| EncodeError::RecordTooLong)?;
    let bytes = RECORD_PREFIX_BYTES + name.len() + value.len();
    if at.checked_add(bytes).is_none_or(|end| end > HEAD_MAX_BYTES) {
        return Err(EncodeError::Full);
    }
    let [low, high] = value_len.to_le_bytes();
    Ok([field as u8, name_len, low, high])
}

/// Writes one record at `at` in `out`; returns the offset behind it.
///
/// # Errors
/// [`EncodeError`] if the record cannot be encoded or does not fit; `out` is unchanged then.
pub fn write_record(
    out: &mut [u8],
    at: usize,
    field: Field,
    name: &str,
    value: &[u8],
) -> Result<usize, EncodeError> {
    let begin = record_prefix(at, field, name.as_bytes(), value)?;
    let end = at + record_bytes(name, value);
    let space = out.get_mut(at..end).ok_or(EncodeError::Full)?;
    let (prefix, rest) = space.split_at_mut(RECORD_PREFIX_BYTES);
    prefix.copy_from_slice(&begin);
    let (name_space, value_space) = rest.split_at_mut(name.len());
    name_space.copy_from_slice(name.as_bytes());
    value_space.copy_from_slice(value);
    Ok(end)
}

/// Makes all that was written behind the record at `at`, which has no value yet, its value.
///
/// # Errors
/// [`EncodeError`] if it is more than a value, or a head, may be.
pub fn close_record(out: &mut [u8], at: usize) -> Result<(), EncodeError> {
    let is_over = out.len() > HEAD_MAX_BYTES;
    let (prefix, rest) = out
        .get_mut(at..)
        .and_then(<[u8]>::split_first_chunk_mut::<RECORD_PREFIX_BYTES>)
        .ok_or(EncodeError::Full)?;
    let [_, name_len, low, high] = prefix;
    let value_len = rest.len().checked_sub(usize::from(*name_len)).ok_or(EncodeError::Full)?;
    let value_len = u16::try_from(value_len).map_err(|_| EncodeError::RecordTooLong)?;
    [*low, *high] = value_len.to_le_bytes();
    if is_over { Err(EncodeError::Full) } else { Ok(()) }
}

/// One record of a head, for who compares names as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// What it means.
    pub field: Field,
    /// Name, in UTF-8; empty for fields that have none.
    pub name: &'a [u8],
    /// Value.
    pub value: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// The first record of `head`, and what is behind it; `None` if none fits. Its name is not looked at.
    #[inline]
    fn split(head: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (prefix, rest) = head.split_first_chunk::<RECORD_PREFIX_BYTES>()?;
        let [field, name_len, low, high] = *prefix;
        let (name, rest) = rest.split_at_checked(usize::from(name_len))?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        Some((RawRecord { field: Field::from_u8(field)?, name, value }, rest))
    }

    /// Bytes that it takes.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> usize {
        RECORD_PREFIX_BYTES + self.name.len() + self.value.len()
    }
}

/// The records of `head`, up to the first that is malformed.
#[inline]
pub fn raw_records(head: &[u8]) -> impl Iterator<Item = RawRecord<'_>> {
    let mut left = head;
    core::iter::from_fn(move || {
        let (record, rest) = RawRecord::split(left)?;
        let is_text = record.name.is_ascii() || core::str::from_utf8(record.name).is_ok();
        is_text.then(|| {
            left = rest;
            record
        })
    })
}

/// Why a head could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHead {
    /// Bytes left when the record that does not fit began.
    pub left: usize,
}

/// Iterates over the records of a head. After an error it ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

/// The records of `head`.
#[must_use]
pub const fn records(head: &[u8]) -> Records<'_> {
    Records { rest: head }
}

impl<'a> Records<'a> {
    fn take(&mut self) -> Option<Record<'a>> {
        let (RawRecord { field, name, value }, rest) = RawRecord::split(self.rest)?;
        let name = core::str::from_utf8(name).ok()?;
        self.rest = rest;
        Some(Record { field, name, value })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, MalformedHead>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.take() {
            Some(record) => Some(Ok(record)),
            None => {
                let left = self.rest.len();
                self.rest = &[];
                Some(Err(MalformedHead { left }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = [0u8; 64];
        let at = write_record(&mut out, 0, Field::Method, "", b"GET").unwrap();
        let at = write_record(&mut out, at, Field::Header, "accept", b"*/*").unwrap();
        let mut read = records(&out[..at]);
        assert_eq!(read.next(), Some(Ok(Record { field: Field::Method, name: "", value: b"GET" })));
        assert_eq!(read.next(), Some(Ok(Record { field: Field::Header, name: "accept", value: b"*/*" })));
        assert_eq!(read.next(), None);
    }

    #[test]
    fn what_stands_behind_an_empty_record_becomes_its_value() {
        let mut out = vec![0; record_bytes("x", b"")];
        write_record(&mut out, 0, Field::Header, "x", b"").unwrap();
        out.extend_from_slice(b"long");
        close_record(&mut out, 0).unwrap();
        let read: Vec<_> = records(&out).collect();
        assert_eq!(read, [Ok(Record { field: Field::Header, name: "x", value: b"long" })]);
        assert_eq!(close_record(&mut out, 3), Err(EncodeError::Full));
        out.resize(6 + 65_536, b'y');
        assert_eq!(close_record(&mut out, 0), Err(EncodeError::RecordTooLong));
        out.resize(HEAD_MAX_BYTES + 1, b'y');
        let at = HEAD_MAX_BYTES - 10;
        write_record(&mut out, at, Field::Header, "", b"").unwrap();
        assert_eq!(close_record(&mut out, at), Err(EncodeError::Full));
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_the_space_alone() {
        let mut out = [7u8; 8];
        assert_eq!(write_record(&mut out, 0, Field::Path, "", b"12345"), Err(EncodeError::Full));
        assert_eq!(out, [7u8; 8]);
        assert_eq!(
            write_record(&mut [0; 70_000], 0, Field::Header, "x", &[0; 65_536]),
            Err(EncodeError::RecordTooLong)
        );
    }

    #[test]
    fn truncated_and_unknown_records_end_with_one_error() {
        for bad in [&b"\x02\x00\x05\x00abc"[..], b"\x09\x00\x00\x00", b"\x05", b"\x05\x01\x00\x00\xff"] {
            let mut read = records(bad);
            assert_eq!(read.next(), Some(Err(MalformedHead { left: bad.len() })), "{bad:?}");
            assert_eq!(read.next(), None);
            assert_eq!(raw_records(bad).next(), None);
        }
        let good = b"\x05\x02\x01\x00\xc3\xa4b\x05\x01";
        let raw: Vec<_> = raw_records(good).collect();
        assert_eq!(raw, [RawRecord { field: Field::Header, name: "ä".as_bytes(), value: b"b" }]);
        assert_eq!(raw[0].bytes(), 7);
    }
}

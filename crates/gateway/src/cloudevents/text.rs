//! The grammar of attribute values: how headers carry any text, times, media types.

use std::fmt::Write as _;

/// A value as a header may carry it: what is not printable ASCII, and `"`, `%` and space, as `%XX` of its UTF-8.
pub(super) fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// The text that a header carries. Senders that escape nothing are understood too; `None` for what is not UTF-8 once it is
/// unescaped.
pub(super) fn unescape(value: &str) -> Option<String> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = value.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                text.push(u8::try_from(high * 16 + low).ok()?);
                at += 3;
            }
            _ => {
                text.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(text).ok()
}

/// Whether a text is a time by RFC 3339.
pub(super) fn is_moment(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, len: usize| -> Option<u32> {
        let digits = bytes.get(from..from + len)?;
        digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
    };
    let is = |at: usize, which: &[u8]| bytes.get(at).is_some_and(|byte| which.contains(byte));
    let Some((year, month, day)) =
        number(0, 4).zip(number(5, 2)).zip(number(8, 2)).map(|((y, m), d)| (y, m, d))
    else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    let clock = number(11, 2).zip(number(14, 2)).zip(number(17, 2));
    let Some(((hour, minute), second)) = clock else { return false };
    // A leap second is a second too.
    let in_bounds = (1..=days).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let marks = is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":");
    if !in_bounds || !marks {
        return false;
    }
    let mut at = 19;
    if is(at, b".") {
        let digits = bytes.iter().skip(at + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        at += 1 + digits;
    }
    if is(at, b"Zz") {
        return bytes.len() == at + 1;
    }
    let offset = number(at + 1, 2).zip(number(at + 4, 2));
    is(at, b"+-")
        && is(at + 3, b":")
        && bytes.len() == at + 6
        && offset.is_some_and(|(hours, minutes)| hours < 24 && minutes < 60)
}

/// Whether a text is a media type, with parameters or without.
pub(super) fn is_media_type(text: &str) -> bool {
    let kind = text.split(';').next().unwrap_or_default().trim();
    let is_token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    kind.split_once('/').is_some_and(|(one, two)| is_token(one) && is_token(two))
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Whether what is of that media type is JSON.
pub(super) fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = kind.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype == "json" || subtype.ends_with("+json")
}

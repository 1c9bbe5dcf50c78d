//! Route patterns: `/cart/{user}`, `/static/{*file}`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{PARAM_NAME_CHARS_MAX, PARAMS_MAX, PATTERN_BYTES_MAX, SEGMENTS_MAX};

/// A pattern of paths, checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoutePattern {
    text: String,
    segments: Vec<Segment>,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// This very text, compared byte by byte as it stands in the request line.
    Literal(Box<str>),
    /// Any one segment that is not empty; the name under which the function finds it.
    Param(Box<str>),
    /// All that is left, at least one byte; the name under which the function finds it.
    Wildcard(Box<str>),
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternFault {
    /// It does not start with a slash.
    NoSlash,
    /// It has more bytes than [`PATTERN_BYTES_MAX`].
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// It has more segments than [`SEGMENTS_MAX`].
    TooManySegments {
        /// How many it has.
        segments: usize,
    },
    /// It has more parameters than [`PARAMS_MAX`].
    TooManyParams {
        /// How many it has.
        params: usize,
    },
    /// Two slashes in a row, or a slash at the end.
    EmptySegment,
    /// A segment `.` or `..`, which no request path may hold.
    DotSegment,
    /// A character that stands in no path unescaped.
    Character {
        /// The character.
        found: char,
    },
    /// Braces that do not enclose a whole segment.
    Braces {
        /// The segment.
        segment: String,
    },
    /// A parameter whose name is not a word of letters, digits and `_`.
    ParamName {
        /// The name.
        name: String,
    },
    /// Two parameters of one name.
    ParamTwice {
        /// The name.
        name: String,
    },
    /// A wildcard that is not the last segment.
    WildcardNotLast {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for PatternFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlash => f.write_str("the path does not start with \"/\""),
            Self::TooLong { bytes } => {
                write!(f, "the path has {bytes} bytes, the most is {PATTERN_BYTES_MAX}")
            }
            Self::TooManySegments { segments } => {
                write!(f, "the path has {segments} segments, the most is {SEGMENTS_MAX}")
            }
            Self::TooManyParams { params } => {
                write!(f, "the path has {params} parameters, the most is {PARAMS_MAX}")
            }
            Self::EmptySegment => f.write_str("the path has an empty segment"),
            Self::DotSegment => {
                f.write_str("the path has a segment \".\" or \"..\", which no request matches")
            }
            Self::Character { found } => write!(f, "{found:?} cannot stand in a path"),
            Self::Braces { segment } => write!(f, "the braces of {segment:?} do not enclose a whole segment"),
            Self::ParamName { name } => write!(f, "{name:?} cannot name a parameter"),
            Self::ParamTwice { name } => write!(f, "the parameter {name:?} stands twice in the path"),
            Self::WildcardNotLast { name } => write!(f, "the wildcard {name:?} is not the last segment"),
        }
    }
}

impl std::error::Error for PatternFault {}

impl PatternFault {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoSlash => "start the path with \"/\"",
            Self::TooLong { .. } | Self::TooManySegments { .. } => {
                "shorten the path, or end it with a wildcard such as {*rest}"
            }
            Self::TooManyParams { .. } => "take the last ones together with a wildcard such as {*rest}",
            Self::EmptySegment => "write one slash between segments and none at the end",
            Self::DotSegment => "remove the segment",
            Self::Character { .. } => "write the character percent-encoded, as it stands in the request",
            Self::Braces { .. } => "write {name} between two slashes, and nothing beside it",
            Self::ParamName { .. } => {
                "name it with letters, digits and _, at most 48 of them, a letter first"
            }
            Self::ParamTwice { .. } => "give each parameter a name of its own",
            Self::WildcardNotLast { .. } => "move the wildcard to the end, or write {name} for one segment",
        }
    }
}

impl RoutePattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its segments; none for `/`.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of its parameters, from the left, the wildcard's last.
    pub fn param_names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Param(name) | Segment::Wildcard(name) => Some(&**name),
        })
    }
}

impl FromStr for RoutePattern {
    type Err = PatternFault;

    fn from_str(text: &str) -> Result<Self, PatternFault> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternFault::TooLong { bytes: text.len() });
        }
        let rest = text.strip_prefix('/').ok_or(PatternFault::NoSlash)?;
        let segments = match rest {
            "" => Vec::new(),
            rest => rest.split('/').map(segment).collect::<Result<Vec<_>, _>>()?,
        };
        let pattern = Self { text: text.to_owned(), segments };
        check(&pattern)?;
        Ok(pattern)
    }
}

fn segment(text: &str) -> Result<Segment, PatternFault> {
    if text.is_empty() {
        return Err(PatternFault::EmptySegment);
    }
    if is_dot_segment(text) {
        return Err(PatternFault::DotSegment);
    }
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        return match name.strip_prefix('*') {
            Some(name) => param_name(name).map(Segment::Wildcard),
            None => param_name(name).map(Segment::Param),
        };
    }
    if text.contains(['{', '}']) {
        return Err(PatternFault::Braces { segment: text.to_owned() });
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@%".contains(c);
    match text.chars().find(|c| !fits(*c)) {
        Some(found) => Err(PatternFault::Character { found }),
        None => Ok(Segment::Literal(text.into())),
    }
}

fn param_name(name: &str) -> Result<Box<str>, PatternFault> {
    let fits = name.len() <= PARAM_NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits { Ok(name.into()) } else { Err(PatternFault::ParamName { name: name.to_owned() }) }
}

fn check(pattern: &RoutePattern) -> Result<(), PatternFault> {
    let segments = pattern.segments.len();
    if segments > SEGMENTS_MAX {
        return Err(PatternFault::TooManySegments { segments });
    }
    let names: Vec<&str> = pattern.param_names().collect();
    if names.len() > PARAMS_MAX {
        return Err(PatternFault::TooManyParams { params: names.len() });
    }
    if let Some((_, name)) =
        names.iter().enumerate().find(|(i, name)| names.iter().take(*i).any(|n| n == *name))
    {
        return Err(PatternFault::ParamTwice { name: (*name).to_owned() });
    }
    for segment in pattern.segments.iter().rev().skip(1) {
        if let Segment::Wildcard(name) = segment {
            return Err(PatternFault::WildcardNotLast { name: name.to_string() });
        }
    }
    Ok(())
}

/// Whether a segment is `.` or `..`, percent-encoded or not.
pub(super) fn is_dot_segment(segment: &str) -> bool {
    // Seven bytes cannot spell two dots, and nine cannot spell three: only short segments are looked at.
    if segment.is_empty() || segment.len() > 6 {
        return false;
    }
    let mut rest = segment.as_bytes();
    let mut dots = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    }
    dots <= 2
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl TryFrom<String> for RoutePattern {
    type Error = PatternFault;

    fn try_from(text: String) -> Result<Self, PatternFault> {
        text.parse()
    }
}

impl From<RoutePattern> for String {
    fn from(pattern: RoutePattern) -> Self {
        pattern.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_segment_by_segment() {
        let pattern: RoutePattern = "/cart/{user}/{*rest}".parse().unwrap();
        let expect = [
            Segment::Literal("cart".into()),
            Segment::Param("user".into()),
            Segment::Wildcard("rest".into()),
        ];
        assert_eq!(pattern.segments(), expect);
        assert_eq!(pattern.param_names().collect::<Vec<_>>(), ["user", "rest"]);
        assert!("/".parse::<RoutePattern>().unwrap().segments().is_empty());
    }

    #[test]
    fn each_bad_pattern_is_named() {
        use PatternFault as F;
        let cases = [
            ("", F::NoSlash),
            ("cart", F::NoSlash),
            ("/cart/", F::EmptySegment),
            ("//", F::EmptySegment),
            ("/a/../b", F::DotSegment),
            ("/a/%2E.", F::DotSegment),
            ("/a b", F::Character { found: ' ' }),
            ("/a?b", F::Character { found: '?' }),
            ("/{id}.json", F::Braces { segment: "{id}.json".into() }),
            ("/{", F::Braces { segment: "{".into() }),
            ("/{}", F::ParamName { name: String::new() }),
            ("/{a-b}", F::ParamName { name: "a-b".into() }),
            ("/{a}/{a}", F::ParamTwice { name: "a".into() }),
            ("/{*a}/b", F::WildcardNotLast { name: "a".into() }),
            ("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", F::TooManyParams { params: 9 }),
        ];
        for (text, fault) in cases {
            assert_eq!(text.parse::<RoutePattern>(), Err(fault), "{text}");
        }
        let long = "/x".repeat(SEGMENTS_MAX + 1);
        assert_eq!(long.parse::<RoutePattern>(), Err(F::TooManySegments { segments: SEGMENTS_MAX + 1 }));
        let long = format!("/{}", "x".repeat(PATTERN_BYTES_MAX));
        assert_eq!(long.parse::<RoutePattern>(), Err(F::TooLong { bytes: PATTERN_BYTES_MAX + 1 }));
    }

    #[test]
    fn dots_are_seen_through_percent_encoding() {
        for dots in [".", "..", "%2e", "%2E%2e", ".%2e", "%2e."] {
            assert!(is_dot_segment(dots), "{dots}");
        }
        for other in ["", "...", "a.", ".a", "%2f", "..%00", "%2e%2e%2e"] {
            assert!(!is_dot_segment(other), "{other}");
        }
    }
}

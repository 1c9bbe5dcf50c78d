//! Small grammars of policies: rates, sources of a text in a request, templates of header values.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is wrong with a rate, a source or a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermFault {
    what: &'static str,
    text: String,
    write: &'static str,
}

impl fmt::Display for TermFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no {}; write {}", self.text, self.what, self.write)
    }
}

impl std::error::Error for TermFault {}

/// So many requests in a time: `100/s`, `10/m`, `5000/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    /// How many, at least one.
    pub count: u32,
    /// Seconds: 1, 60 or 3600.
    pub seconds: u32,
}

impl Rate {
    /// Nanoseconds from one request to the next, at least one.
    #[must_use]
    pub fn interval_ns(self) -> u64 {
        (u64::from(self.seconds) * 1_000_000_000 / u64::from(self.count.max(1))).max(1)
    }
}

impl FromStr for Rate {
    type Err = TermFault;

    fn from_str(text: &str) -> Result<Self, TermFault> {
        let bad = || TermFault {
            what: "rate",
            text: text.to_owned(),
            write: "a whole number from 1 to 10000000, a slash and one of s, m, h, such as \"100/s\"",
        };
        let (count, unit) = text.split_once('/').ok_or_else(bad)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(bad()),
        };
        let count: u32 = count.parse().map_err(|_| bad())?;
        if !(1..=10_000_000).contains(&count) {
            return Err(bad());
        }
        Ok(Self { count, seconds })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.seconds {
            60 => "m",
            3600 => "h",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// Where in a request a text is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// The same for all.
    All,
    /// The client's address; of IPv6 its /64, which is what one client has.
    Address,
    /// A header, by its name in lower case.
    Header(String),
    /// A parameter of the route.
    Param(String),
    /// The name of the API key.
    ApiKey,
    /// A claim of the JSON web token.
    Claim(String),
    /// The client's identity by its certificate.
    Identity,
    /// The function that calls, of calls between nodes.
    Caller,
    /// The method.
    Method,
    /// The path.
    Path,
}

const SOURCES: &str =
    "all, address, api-key, identity, caller, method, path, header:NAME, param:NAME or claim:NAME";

impl FromStr for Source {
    type Err = TermFault;

    fn from_str(text: &str) -> Result<Self, TermFault> {
        let bad = || TermFault { what: "source of a text", text: text.to_owned(), write: SOURCES };
        Ok(match text {
            "all" => Self::All,
            "address" => Self::Address,
            "api-key" => Self::ApiKey,
            "identity" => Self::Identity,
            "caller" => Self::Caller,
            "method" => Self::Method,
            "path" => Self::Path,
            _ => {
                let (kind, name) = text.split_once(':').ok_or_else(bad)?;
                if name.is_empty() || name.len() > 64 {
                    return Err(bad());
                }
                match kind {
                    "header" if is_header_name(name) => Self::Header(name.to_ascii_lowercase()),
                    "param" => Self::Param(name.to_owned()),
                    "claim" => Self::Claim(name.to_owned()),
                    _ => return Err(bad()),
                }
            }
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Address => f.write_str("address"),
            Self::ApiKey => f.write_str("api-key"),
            Self::Identity => f.write_str("identity"),
            Self::Caller => f.write_str("caller"),
            Self::Method => f.write_str("method"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Param(name) => write!(f, "param:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
        }
    }
}

/// A header's value, in which `{SOURCE}` stands for what the request has there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<(String, Option<Source>)>,
}

impl Template {
    /// Its parts: a literal, and what is put behind it.
    #[must_use]
    pub fn parts(&self) -> &[(String, Option<Source>)] {
        &self.parts
    }
}

impl FromStr for Template {
    type Err = TermFault;

    fn from_str(text: &str) -> Result<Self, TermFault> {
        let bad = || TermFault {
            what: "value of a header",
            text: text.to_owned(),
            write: "at most 1024 printable characters, in which {SOURCE} stands for a text of the request",
        };
        if text.len() > 1024 || text.chars().any(char::is_control) {
            return Err(bad());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('{') {
            let (source, after) = behind.split_once('}').ok_or_else(bad)?;
            parts.push((literal.to_owned(), Some(source.parse()?)));
            rest = after;
        }
        parts.push((rest.to_owned(), None));
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a header can be called so: a token of RFC 9110.
pub(super) fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= 128 && name.bytes().all(is_token)
}

/// A network and how many of its bits count: `10.0.0.0/8`.
#[must_use]
pub fn network_of(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

macro_rules! text_form {
    ($($name:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = TermFault;

            fn try_from(text: String) -> Result<Self, TermFault> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+};
}

text_form!(Rate, Source, Template);

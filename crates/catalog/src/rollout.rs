//! How a new version of an app takes over: shares of the requests, who stays with which version, and when it is undone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::units::TimeSpan;

/// A share of a whole, in hundredths of a percent: `"10%"`, `"0.5%"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u16);

impl Percent {
    /// The whole.
    pub const ALL: Self = Self(10_000);

    /// So many hundredths of a percent; `None` beyond the whole.
    #[must_use]
    pub const fn from_hundredths(hundredths: u16) -> Option<Self> {
        if hundredths <= Self::ALL.0 { Some(Self(hundredths)) } else { None }
    }

    /// Hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.0
    }

    /// What is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }
}

/// What is wrong with a share or with what one stays by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutFault {
    /// It is no percentage.
    Percent,
    /// It is neither a header, nor a cookie, nor the client.
    Sticky,
}

impl fmt::Display for RolloutFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Percent => {
                "a share is 0 to 100 with at most two decimal places and a percent sign, such as 10% or 0.5%"
            }
            Self::Sticky => "what one stays by is \"header:NAME\", \"cookie:NAME\" or \"client\"",
        })
    }
}

impl std::error::Error for RolloutFault {}

impl FromStr for Percent {
    type Err = RolloutFault;

    fn from_str(text: &str) -> Result<Self, RolloutFault> {
        let number = text.strip_suffix('%').ok_or(RolloutFault::Percent)?.trim_end();
        let (whole, part) =
            number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
        let is_number = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole, 3) || part.is_some_and(|part| !is_number(part, 2)) {
            return Err(RolloutFault::Percent);
        }
        let parsed = |text: &str| text.parse::<u16>().map_err(|_| RolloutFault::Percent);
        let hundredths = match part {
            Some(part) => parsed(part)? * if part.len() == 1 { 10 } else { 1 },
            None => 0,
        };
        let sum = parsed(whole)?.checked_mul(100).and_then(|whole| whole.checked_add(hundredths));
        sum.and_then(Self::from_hundredths).ok_or(RolloutFault::Percent)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => f.pad(&format!("{whole}%")),
            part if part.is_multiple_of(10) => f.pad(&format!("{whole}.{}%", part / 10)),
            part => f.pad(&format!("{whole}.{part:02}%")),
        }
    }
}

impl TryFrom<String> for Percent {
    type Error = RolloutFault;

    fn try_from(text: String) -> Result<Self, RolloutFault> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        percent.to_string()
    }
}

/// By what one who asks again is known, so that the same version answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sticky {
    /// The value of a header; the name is in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The address that the connection comes from.
    Client,
}

impl FromStr for Sticky {
    type Err = RolloutFault;

    fn from_str(text: &str) -> Result<Self, RolloutFault> {
        // What a header or a cookie may be called, by RFC 9110 and 6265.
        let is_token = |name: &str| {
            (1..=limits::STICKY_NAME_CHARS_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        match text.split_once(':') {
            None if text == "client" => Ok(Self::Client),
            Some(("header", name)) if is_token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            _ => Err(RolloutFault::Sticky),
        }
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Client => f.write_str("client"),
        }
    }
}

impl TryFrom<String> for Sticky {
    type Error = RolloutFault;

    fn try_from(text: String) -> Result<Self, RolloutFault> {
        text.parse()
    }
}

impl From<Sticky> for String {
    fn from(sticky: Sticky) -> Self {
        sticky.to_string()
    }
}

/// How new versions of an app take over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// They begin with a part of the requests; with all of them if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// When they are undone. Without it a version that has a part of the requests is judged by the defaults, and one that
    /// has all of them is not watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
}

impl Rollout {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A new version that begins with a part of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Which part.
    pub share: Percent,
    /// By what one who asks again is known; each request is dealt by itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

/// When a new version is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// How much higher than the old version's its share of failures may be.
    pub errors: Percent,
    /// Requests that it answers before it is judged.
    pub after: u32,
    /// Over how long its answers are counted; and how long a version that has all requests is watched.
    pub window: TimeSpan,
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            errors: limits::ROLLBACK_ERRORS_DEFAULT,
            after: limits::ROLLBACK_AFTER_DEFAULT,
            window: limits::ROLLBACK_WINDOW_DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_read_as_people_write_them() {
        let check = |text: &str, expect: Option<u16>| {
            let read = text.parse::<Percent>().ok().map(Percent::hundredths);
            assert_eq!(read, expect, "{text}");
        };
        for (text, hundredths) in
            [("10%", 1000), ("0%", 0), ("100%", 10_000), ("0.5%", 50), ("12.25%", 1225), ("7 %", 700)]
        {
            check(text, Some(hundredths));
        }
        for text in
            ["", "%", "10", "101%", "100.01%", "-1%", "1.%", ".5%", "0.125%", "1e1%", "ten%", "+5%", "65636%"]
        {
            check(text, None);
        }
    }

    #[test]
    fn what_one_stays_by_is_read_and_nothing_else() {
        for text in ["header:x-user", "cookie:Sid", "client"] {
            assert_eq!(text.parse::<Sticky>().unwrap().to_string(), text);
        }
        assert_eq!("header:X-User".parse(), Ok(Sticky::Header("x-user".to_owned())));
        for text in ["", "header:", "cookie:a b", "ip", "client:1", "header:x;y", "header"] {
            assert_eq!(text.parse::<Sticky>(), Err(RolloutFault::Sticky), "{text}");
        }
    }

    proptest! {
        #[test]
        fn shares_print_what_they_read(hundredths in 0..=10_000_u16) {
            let share = Percent::from_hundredths(hundredths).unwrap();
            prop_assert_eq!(share.to_string().parse(), Ok(share));
            prop_assert_eq!(share.rest().hundredths() + hundredths, 10_000);
        }
    }
}

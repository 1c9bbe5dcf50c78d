//! Sizes, time spans and shares of a core, as a manifest writes them.
//!
//! Each type reads what it prints: `text.parse::<T>()?.to_string()` is a text of the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes: `"256MiB"`, `"64KiB"`, `"1GiB"` or plain bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many MiB; for constants.
    #[must_use]
    pub const fn from_mib(mib: u32) -> Self {
        Self((mib as u64) << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// What is wrong with a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeFault {
    /// It does not start with a digit.
    NoNumber,
    /// It has a fraction.
    Fraction,
    /// What follows the number is no unit.
    Unit {
        /// What follows the number.
        unit: String,
    },
    /// It is more than 64 bits can count.
    TooLarge,
}

const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl fmt::Display for SizeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("a size starts with a whole number"),
            Self::Fraction => f.write_str("a size is a whole number of its unit"),
            Self::Unit { unit } => write!(f, "{unit:?} is no unit of size"),
            Self::TooLarge => f.write_str("the size does not fit into 64 bits"),
        }
    }
}

impl std::error::Error for SizeFault {}

impl FromStr for ByteSize {
    type Err = SizeFault;

    fn from_str(text: &str) -> Result<Self, SizeFault> {
        let (number, unit) = split_number(text);
        if number.is_empty() {
            return Err(SizeFault::NoNumber);
        }
        if unit.starts_with(['.', ',']) {
            return Err(SizeFault::Fraction);
        }
        let factor = match unit {
            "" => 1,
            unit => {
                let known = SIZE_UNITS.iter().find(|(name, _)| *name == unit);
                known.ok_or_else(|| SizeFault::Unit { unit: unit.to_owned() })?.1
            }
        };
        let number: u64 = number.parse().map_err(|_| SizeFault::TooLarge)?;
        number.checked_mul(factor).map(Self).ok_or(SizeFault::TooLarge)
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that leaves no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = SIZE_UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        let (unit, factor) = fitting.copied().unwrap_or(("B", 1));
        f.pad(&format!("{}{unit}", self.0 / factor))
    }
}

/// A span of time: `"500ms"`, `"2s"`, `"1m"`, `"1h"`; whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan {
    millis: u64,
}

impl TimeSpan {
    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// The number of milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.millis
    }

    /// The span as the standard library knows it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

impl From<TimeSpan> for Duration {
    fn from(span: TimeSpan) -> Self {
        span.duration()
    }
}

/// What is wrong with a time span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFault {
    /// It does not start with a digit.
    NoNumber,
    /// It has a fraction.
    Fraction,
    /// Nothing follows the number.
    NoUnit,
    /// What follows the number is no unit.
    Unit {
        /// What follows the number.
        unit: String,
    },
    /// It is more milliseconds than 64 bits can count.
    TooLong,
}

const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for TimeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber => f.write_str("a time starts with a whole number"),
            Self::Fraction => f.write_str("a time is a whole number of its unit"),
            Self::NoUnit => f.write_str("the time has no unit"),
            Self::Unit { unit } => write!(f, "{unit:?} is no unit of time"),
            Self::TooLong => f.write_str("the time does not fit into 64 bits of milliseconds"),
        }
    }
}

impl std::error::Error for TimeFault {}

impl FromStr for TimeSpan {
    type Err = TimeFault;

    fn from_str(text: &str) -> Result<Self, TimeFault> {
        let (number, unit) = split_number(text);
        if number.is_empty() {
            return Err(TimeFault::NoNumber);
        }
        if unit.starts_with(['.', ',']) {
            return Err(TimeFault::Fraction);
        }
        if unit.is_empty() {
            return Err(TimeFault::NoUnit);
        }
        let known = TIME_UNITS.iter().find(|(name, _)| *name == unit);
        let (_, factor) = known.ok_or_else(|| TimeFault::Unit { unit: unit.to_owned() })?;
        let number: u64 = number.parse().map_err(|_| TimeFault::TooLong)?;
        number.checked_mul(*factor).map(Self::from_millis).ok_or(TimeFault::TooLong)
    }
}

impl fmt::Display for TimeSpan {
    /// The largest unit that leaves no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = TIME_UNITS.iter().find(|(_, factor)| self.millis.is_multiple_of(*factor));
        let (unit, factor) = fitting.copied().filter(|_| self.millis != 0).unwrap_or(("ms", 1));
        f.pad(&format!("{}{unit}", self.millis / factor))
    }
}

/// A share of the machine's cores, kept in thousandths so that it compares exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Cores {
    milli: u32,
}

/// The number is no share of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoresFault;

impl fmt::Display for CoresFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share of cores is a positive number such as 0.5")
    }
}

impl std::error::Error for CoresFault {}

impl Cores {
    /// So many thousandths of a core.
    #[must_use]
    pub const fn from_milli(milli: u32) -> Self {
        Self { milli }
    }

    /// The number of thousandths of a core.
    #[must_use]
    pub const fn milli(self) -> u32 {
        self.milli
    }
}

impl TryFrom<f64> for Cores {
    type Error = CoresFault;

    fn try_from(cores: f64) -> Result<Self, CoresFault> {
        let milli = (cores * 1000.0).round();
        if !(0.0..=f64::from(u32::MAX)).contains(&milli) {
            return Err(CoresFault);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range is checked above"
        )]
        let milli = milli as u32;
        Ok(Self { milli })
    }
}

impl From<Cores> for f64 {
    fn from(cores: Cores) -> Self {
        Self::from(cores.milli) / 1000.0
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&f64::from(*self), f)
    }
}

/// The leading digits and what follows them, blanks between the two dropped.
fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

macro_rules! text_form {
    ($name:ident, $fault:ident) => {
        impl TryFrom<String> for $name {
            type Error = $fault;

            fn try_from(text: String) -> Result<Self, $fault> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

text_form!(ByteSize, SizeFault);
text_form!(TimeSpan, TimeFault);

#[cfg(test)]
mod tests;

//! Amounts of money: whole units and billionths of a unit, as exact integers, never floating point.

use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Billionths in a unit.
pub(crate) const NANOS: i128 = 1_000_000_000;
/// Largest amount that the shop computes with, so that no product of an amount and two rates leaves 128 bits.
const UNITS_MAX: i64 = 1_000_000_000_000;

/// An ISO 4217 code: three capital letters.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Code(pub [u8; 3]);

impl Code {
    /// Reads a code: three capital ASCII letters.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 3] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Self(bytes))
    }

    /// The letters; `"???"` if a peer wrote something else.
    pub fn as_str(&self) -> &str {
        match self.0.iter().all(u8::is_ascii_uppercase) {
            true => core::str::from_utf8(&self.0).unwrap_or("???"),
            false => "???",
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount: `units + nanos / 10⁹` of `currency`; both parts have the same sign. 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Money {
    /// Whole units.
    pub units: i64,
    /// Billionths, in −999,999,999 … 999,999,999.
    pub nanos: i32,
    /// What the units are.
    pub currency: Code,
    pad: u8,
}

/// Why an amount is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoneyError {
    /// The billionths are a unit or more, or their sign is not that of the units.
    Malformed,
    /// The amount is larger than the shop computes with.
    TooLarge,
    /// Two currencies in one sum.
    Mixed {
        /// The first one's code.
        left: Code,
        /// The second one's.
        right: Code,
    },
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => {
                f.write_str("An amount's units and nanos must agree in sign, nanos below one unit.")
            }
            Self::TooLarge => write!(f, "An amount may be at most {UNITS_MAX} units."),
            Self::Mixed { left, right } => write!(f, "Cannot add {right:?} to {left:?}: convert first."),
        }
    }
}

impl From<MoneyError> for crate::Failure {
    fn from(error: MoneyError) -> Self {
        Self::new(422, error.to_string())
    }
}

impl Money {
    /// `units + nanos / 10⁹` of `currency`.
    pub const fn new(units: i64, nanos: i32, currency: Code) -> Self {
        Self { units, nanos, currency, pad: 0 }
    }

    /// Nothing, in `currency`.
    pub const fn zero(currency: Code) -> Self {
        Self::new(0, 0, currency)
    }

    /// The whole amount in billionths, if it is well formed and within bounds.
    pub fn total_nanos(&self) -> Result<i128, MoneyError> {
        let signs_differ = (self.units > 0 && self.nanos < 0) || (self.units < 0 && self.nanos > 0);
        if i128::from(self.nanos).abs() >= NANOS || signs_differ {
            return Err(MoneyError::Malformed);
        }
        if self.units.unsigned_abs() > UNITS_MAX.unsigned_abs() {
            return Err(MoneyError::TooLarge);
        }
        Ok(i128::from(self.units) * NANOS + i128::from(self.nanos))
    }

    /// The amount of so many billionths.
    pub fn from_nanos(total: i128, currency: Code) -> Result<Self, MoneyError> {
        let units = i64::try_from(total / NANOS).map_err(|_| MoneyError::TooLarge)?;
        let nanos = i32::try_from(total % NANOS).map_err(|_| MoneyError::Malformed)?;
        if units.unsigned_abs() > UNITS_MAX.unsigned_abs() {
            return Err(MoneyError::TooLarge);
        }
        Ok(Self::new(units, nanos, currency))
    }

    /// The sum of two amounts of one currency.
    pub fn plus(&self, other: &Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed { left: self.currency, right: other.currency });
        }
        Self::from_nanos(self.total_nanos()? + other.total_nanos()?, self.currency)
    }

    /// The amount so many times.
    pub fn times(&self, count: u32) -> Result<Self, MoneyError> {
        Self::from_nanos(self.total_nanos()? * i128::from(count), self.currency)
    }

    /// Writes the amount as a person reads it: `CAD 1,234.50`, `JPY 1,235`, rounded half up at the currency's last digit.
    pub fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let digits =
            if matches!(&self.currency.0, b"JPY" | b"KRW" | b"ISK" | b"HUF" | b"IDR") { 0 } else { 2 };
        let minor = if digits == 0 { 1 } else { 100 };
        let step = NANOS / minor;
        let total = i128::from(self.units) * NANOS + i128::from(self.nanos);
        let rounded = (total.abs() + step / 2) / step;
        out.write_str(self.currency.as_str())?;
        out.write_str(if total < 0 { "\u{a0}−" } else { "\u{a0}" })?;
        // i64 units times 100, plus rounding, fits into 75 bits; what does not fit 64 is beyond every real price.
        let rounded = u64::try_from(rounded).unwrap_or(u64::MAX);
        let minor = if digits == 0 { 1 } else { 100 };
        write_grouped(rounded / minor, out)?;
        if digits == 2 {
            let cents = u8::try_from(rounded % 100).unwrap_or(0);
            out.write_char('.')?;
            out.write_char(char::from(b'0' + cents / 10))?;
            out.write_char(char::from(b'0' + cents % 10))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

/// Writes a number with a comma between groups of three digits.
fn write_grouped(number: u64, out: &mut impl fmt::Write) -> fmt::Result {
    let mut text = [0; 27];
    let mut at = text.len();
    let mut rest = number;
    for nth in 0.. {
        if nth % 3 == 0 && nth > 0 {
            at -= 1;
            text[at] = b',';
        }
        at -= 1;
        text[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.write_str(core::str::from_utf8(&text[at..]).unwrap_or("0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USD: Code = Code(*b"USD");

    #[test]
    fn amounts_read_as_people_write_them() {
        let check = |money: Money, expect: &str| assert_eq!(money.to_string().replace('\u{a0}', " "), expect);
        check(Money::new(1_234_567, 895_000_000, USD), "USD 1,234,567.90");
        check(Money::new(0, 4_999_999, USD), "USD 0.00");
        check(Money::new(0, 5_000_000, USD), "USD 0.01");
        check(Money::new(999, 999_000_000, USD), "USD 1,000.00");
        check(Money::new(-3, -250_000_000, USD), "USD −3.25");
        check(Money::new(1234, 500_000_000, Code(*b"JPY")), "JPY 1,235");
        check(Money::new(i64::MAX, 0, USD), "USD 184,467,440,737,095,516.15");
    }

    #[test]
    fn malformed_amounts_are_refused() {
        assert_eq!(Money::new(1, -1, USD).total_nanos(), Err(MoneyError::Malformed));
        assert_eq!(Money::new(0, 1_000_000_000, USD).total_nanos(), Err(MoneyError::Malformed));
        assert_eq!(Money::new(i64::MIN, 0, USD).total_nanos(), Err(MoneyError::TooLarge));
        let mixed = Money::zero(USD).plus(&Money::zero(Code(*b"EUR")));
        assert_eq!(mixed, Err(MoneyError::Mixed { left: USD, right: Code(*b"EUR") }));
        assert_eq!(Code::parse("usd"), None);
        assert_eq!(Code(*b"<b>").as_str(), "???");
    }

    proptest! {
        #[test]
        fn sums_carry_like_one_big_integer(a in -9_000_000_000_000i128..9_000_000_000_000, b in -9_000_000_000_000i128..9_000_000_000_000, n in 0u32..1000) {
            let (left, right) = (Money::from_nanos(a, USD).unwrap(), Money::from_nanos(b, USD).unwrap());
            prop_assert_eq!(left.plus(&right).unwrap().total_nanos().unwrap(), a + b);
            prop_assert_eq!(left.times(n).unwrap().total_nanos().unwrap(), a * i128::from(n));
        }
    }
}

//! Payment: checks a card and charges it. No money moves; everything that a terminal can check is checked.

use crate::failure::Failure;
use crate::ids::Ids;
use crate::wire::{Card, Charge, PaymentId};

/// Why payment refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentError {
    /// Not a card number: wrong characters, wrong length or a wrong check digit.
    Number,
    /// A card, but neither Visa nor Mastercard.
    Brand,
    /// The verification value is not three digits.
    Cvv,
    /// The month is not 1 to 12 or the year not of this century.
    Date,
    /// The card expired at the end of this month.
    Expired {
        /// Year of expiry.
        year: u16,
        /// Month of expiry.
        month: u8,
    },
    /// Nothing, or less than nothing, is to be paid.
    Amount,
}

impl From<PaymentError> for Failure {
    fn from(error: PaymentError) -> Self {
        match error {
            PaymentError::Number => Self::new(422, "That is not a card number. Check its digits."),
            PaymentError::Brand => Self::new(422, "Only Visa and Mastercard are accepted."),
            PaymentError::Cvv => {
                Self::new(422, "The verification value is the three digits on the card's back.")
            }
            PaymentError::Date => Self::new(422, "The card's month is 1 to 12 and its year has four digits."),
            PaymentError::Expired { year, month } => {
                Self::new(402, format!("The card expired at the end of {year}-{month:02}. Use another one."))
            }
            PaymentError::Amount => Self::new(422, "The amount to pay must be more than nothing."),
        }
    }
}

/// Who issued a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brand {
    /// Visa.
    Visa,
    /// Mastercard.
    Mastercard,
}

/// A month of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    /// The year.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
}

impl Month {
    /// The month of a moment, given in seconds since 1970, in UTC.
    pub fn at(seconds: u64) -> Self {
        // Howard Hinnant's civil-from-days, for days since 1970 only: years start in March, eras have 400 of them.
        let days = seconds / 86_400 + 719_468;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + days / 146_097 * 400 + u64::from(month <= 2);
        Self { year: u16::try_from(year).unwrap_or(u16::MAX), month: u8::try_from(month).unwrap_or(12) }
    }

    /// This month.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self::at(since.map_or(0, |elapsed| elapsed.as_secs()))
    }
}

/// Charges the card, or says why not.
pub fn pay(ids: &Ids, charge: &Charge, today: Month) -> Result<PaymentId, PaymentError> {
    check(&charge.card, today)?;
    match charge.amount.total_nanos() {
        Ok(nanos) if nanos > 0 => Ok(ids.hex()),
        _ => Err(PaymentError::Amount),
    }
}

/// Checks a card: digits, brand, verification value, expiry.
pub fn check(card: &Card, today: Month) -> Result<Brand, PaymentError> {
    let (digits, len) = digits(card.number.as_str()).ok_or(PaymentError::Number)?;
    let digits = &digits[..len];
    if !(12..=19).contains(&len) || !luhn(digits) {
        return Err(PaymentError::Number);
    }
    let lead = digits[..4].iter().fold(0, |lead, digit| lead * 10 + u32::from(*digit));
    let brand = match (lead, len) {
        (4000..=4999, 13 | 16 | 19) => Brand::Visa,
        (5100..=5599 | 2221..=2720, 16) => Brand::Mastercard,
        _ => return Err(PaymentError::Brand),
    };
    let cvv = card.cvv.as_str();
    if cvv.len() != 3 || !cvv.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PaymentError::Cvv);
    }
    if !(1..=12).contains(&card.month) || !(2000..2100).contains(&card.year) {
        return Err(PaymentError::Date);
    }
    if (Month { year: card.year, month: card.month }) < today {
        return Err(PaymentError::Expired { year: card.year, month: card.month });
    }
    Ok(brand)
}

/// The digits of a number in which blanks and hyphens may group them.
fn digits(number: &str) -> Option<([u8; 31], usize)> {
    let (mut digits, mut len) = ([0; 31], 0);
    for byte in number.bytes() {
        match byte {
            b'0'..=b'9' => {
                *digits.get_mut(len)? = byte - b'0';
                len += 1;
            }
            b' ' | b'-' => {}
            _ => return None,
        }
    }
    Some((digits, len))
}

/// Luhn's sum: from the right, every second digit doubled and its digits added; a multiple of ten is right.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(nth, &digit)| match (nth % 2, u32::from(digit)) {
            (0, digit) => digit,
            (_, digit) if digit >= 5 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Code, Money};
    use crate::text::Text;

    const TODAY: Month = Month { year: 2026, month: 2 };

    fn card(number: &str) -> Card {
        Card { year: 2030, month: 1, cvv: Text::literal("672"), number: Text::new(number).unwrap() }
    }

    #[test]
    fn cards_are_known_by_luhn_and_brand() {
        let check = |number: &str, expect: Result<Brand, PaymentError>| {
            assert_eq!(check(&card(number), TODAY), expect, "{number}");
        };
        check("4432-8015-6152-0454", Ok(Brand::Visa));
        check("4111 1111 1111 1111", Ok(Brand::Visa));
        check("5555555555554444", Ok(Brand::Mastercard));
        check("2223003122003222", Ok(Brand::Mastercard));
        check("4432801561520455", Err(PaymentError::Number));
        check("378282246310005", Err(PaymentError::Brand));
        check("0000000000000000", Err(PaymentError::Brand));
        check("4111", Err(PaymentError::Number));
        check("4111x11111111111", Err(PaymentError::Number));
        check("", Err(PaymentError::Number));
    }

    #[test]
    fn one_wrong_digit_is_always_caught() {
        let right: Vec<u8> = "4432801561520454".bytes().map(|byte| byte - b'0').collect();
        assert!(luhn(&right));
        for at in 0..right.len() {
            for digit in (0..10).filter(|digit| *digit != right[at]) {
                let mut wrong = right.clone();
                wrong[at] = digit;
                assert!(!luhn(&wrong));
            }
        }
    }

    #[test]
    fn expiry_and_verification_value_are_checked() {
        let visa = card("4432801561520454");
        assert_eq!(check(&Card { year: 2026, month: 2, ..visa }, TODAY), Ok(Brand::Visa));
        let expired = PaymentError::Expired { year: 2026, month: 1 };
        assert_eq!(check(&Card { year: 2026, month: 1, ..visa }, TODAY), Err(expired));
        assert_eq!(check(&Card { month: 13, ..visa }, TODAY), Err(PaymentError::Date));
        assert_eq!(check(&Card { cvv: Text::literal("12a"), ..visa }, TODAY), Err(PaymentError::Cvv));
        let free = Charge { amount: Money::zero(Code(*b"USD")), card: visa };
        assert_eq!(pay(&Ids::new(), &free, TODAY), Err(PaymentError::Amount));
        assert!(!format!("{free:?}").contains("4432"));
    }

    #[test]
    fn months_follow_the_calendar() {
        let check = |seconds, year, month| assert_eq!(Month::at(seconds), Month { year, month });
        check(0, 1970, 1);
        check(951_782_400, 2000, 2); // 29 February 2000
        check(951_868_800, 2000, 3);
        check(1_735_689_599, 2024, 12);
        check(1_735_689_600, 2025, 1);
    }
}

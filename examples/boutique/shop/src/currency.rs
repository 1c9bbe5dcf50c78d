//! Currency: converts amounts at the euro reference rates of the European Central Bank of 13 June 2024.

use crate::failure::Failure;
use crate::money::{Code, Money, MoneyError};
use crate::wire::Conversion;

/// Parts of a rate in one.
const SCALE: i128 = 100_000;

/// What one euro costs, in hundred-thousandths of the currency, by code in alphabetical order.
const RATES: [([u8; 3], u32); 31] = [
    (*b"AUD", 162_320),
    (*b"BGN", 195_580),
    (*b"BRL", 582_610),
    (*b"CAD", 148_230),
    (*b"CHF", 96_680),
    (*b"CNY", 782_110),
    (*b"CZK", 2_469_900),
    (*b"DKK", 745_930),
    (*b"EUR", 100_000),
    (*b"GBP", 84_468),
    (*b"HKD", 842_240),
    (*b"HUF", 39_648_000),
    (*b"IDR", 1_752_783_000),
    (*b"ILS", 401_080),
    (*b"INR", 9_011_200),
    (*b"ISK", 14_930_000),
    (*b"JPY", 16_958_000),
    (*b"KRW", 148_231_000),
    (*b"MXN", 2_016_540),
    (*b"MYR", 507_660),
    (*b"NOK", 1_143_150),
    (*b"NZD", 174_770),
    (*b"PHP", 6_317_300),
    (*b"PLN", 434_730),
    (*b"RON", 497_730),
    (*b"SEK", 1_122_100),
    (*b"SGD", 145_570),
    (*b"THB", 3_959_300),
    (*b"TRY", 3_483_110),
    (*b"USD", 107_840),
    (*b"ZAR", 1_983_850),
];

/// How many currencies there are.
pub const COUNT: usize = RATES.len();

/// Why currency refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CurrencyError {
    /// There is no rate for this code.
    Unknown(Code),
    /// The amount cannot be computed with.
    Amount(MoneyError),
}

impl From<CurrencyError> for Failure {
    fn from(error: CurrencyError) -> Self {
        match error {
            CurrencyError::Unknown(code) => {
                Self::new(422, format!("There is no rate for the currency {code:?}."))
            }
            CurrencyError::Amount(error) => error.into(),
        }
    }
}

/// The codes, in alphabetical order.
pub const fn codes() -> [Code; COUNT] {
    let mut codes = [Code([0; 3]); COUNT];
    let mut nth = 0;
    while nth < COUNT {
        codes[nth] = Code(RATES[nth].0);
        nth += 1;
    }
    codes
}

/// Whether there is a rate for this code.
pub fn knows(code: Code) -> bool {
    rate(code).is_ok()
}

/// What one euro costs, in hundred-thousandths.
fn rate(code: Code) -> Result<i128, CurrencyError> {
    let found = RATES.binary_search_by(|(known, _)| known.cmp(&code.0));
    found.map(|at| i128::from(RATES[at].1)).map_err(|_| CurrencyError::Unknown(code))
}

/// The amount in the other currency, rounded to the nearest billionth, halves away from zero.
pub fn convert(request: &Conversion) -> Result<Money, CurrencyError> {
    let (from, to) = (rate(request.amount.currency)?, rate(request.to)?);
    let total = request.amount.total_nanos().map_err(CurrencyError::Amount)?;
    // At most 10²¹ nanos times a rate below 2³¹ is below 2¹⁰²: no overflow.
    let (product, half) = (total * to, from / 2);
    let rounded = (product + half * product.signum()) / from;
    Money::from_nanos(rounded, request.to).map_err(CurrencyError::Amount)
}

/// One euro in a currency, as a number of billionths: for showing the table.
pub fn euro_in(code: Code) -> Result<Money, CurrencyError> {
    let nanos = rate(code)? * crate::money::NANOS / SCALE;
    Money::from_nanos(nanos, code).map_err(CurrencyError::Amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EUR: Code = Code(*b"EUR");
    const USD: Code = Code(*b"USD");

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(RATES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(codes().iter().all(|code| knows(*code)));
        assert_eq!(euro_in(USD), Ok(Money::new(1, 78_400_000, USD)));
    }

    #[test]
    fn conversions_are_exact_to_the_billionth() {
        let check = |amount: Money, to: &str, expect: Money| {
            assert_eq!(convert(&Conversion::new(amount, Code::parse(to).unwrap())), Ok(expect));
        };
        check(Money::new(100, 0, EUR), "USD", Money::new(107, 840_000_000, USD));
        check(Money::new(18, 500_000_000, USD), "USD", Money::new(18, 500_000_000, USD));
        // 1.07840 USD are one euro are 169.58 yen; 0.999999999 carries into the units.
        check(Money::new(1, 78_400_000, USD), "JPY", Money::new(169, 580_000_000, Code(*b"JPY")));
        check(Money::new(0, 999_999_999, EUR), "USD", Money::new(1, 78_399_999, USD));
        check(Money::new(-2, -500_000_000, EUR), "USD", Money::new(-2, -696_000_000, USD));
    }

    #[test]
    fn unknown_codes_and_impossible_amounts_are_refused() {
        let check = |amount: Money, to: Code, expect: CurrencyError| {
            assert_eq!(convert(&Conversion::new(amount, to)), Err(expect));
        };
        check(Money::zero(EUR), Code(*b"XXX"), CurrencyError::Unknown(Code(*b"XXX")));
        check(Money::new(1, -1, EUR), USD, CurrencyError::Amount(MoneyError::Malformed));
        check(
            Money::new(999_999_999_999, 0, EUR),
            Code(*b"IDR"),
            CurrencyError::Amount(MoneyError::TooLarge),
        );
    }

    proptest! {
        #[test]
        fn there_and_back_loses_at_most_a_rounding(total in 0i128..1_000_000_000_000_000, from in 0usize..COUNT, to in 0usize..COUNT) {
            let (from, to) = (codes()[from], codes()[to]);
            let amount = Money::from_nanos(total, from).unwrap();
            let there = convert(&Conversion::new(amount, to)).unwrap();
            let back = convert(&Conversion::new(there, from)).unwrap();
            let bound = rate(from).unwrap() / rate(to).unwrap() + 2;
            prop_assert!((back.total_nanos().unwrap() - total).abs() <= bound);
        }
    }
}

//! Shipping: what a parcel costs and which number it has.

use crate::cart::{LINES_MAX, QUANTITY_MAX};
use crate::failure::Failure;
use crate::ids::Ids;
use crate::money::{Code, Money};
use crate::text::Text;
use crate::wire::{Address, Line, TrackingId};

/// Dollars for a parcel however small, in billionths.
const BASE_NANOS: i128 = 4_990_000_000;
/// Dollars for each piece after the first, in billionths.
const PIECE_NANOS: i128 = 1_250_000_000;
/// From so many pieces on, a parcel goes on a pallet at one price.
const PALLET_PIECES: u32 = 40;

/// Why shipping refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShippingError {
    /// More lines, or more of a product, than a cart can hold.
    TooMuch,
    /// There is nothing to send.
    Nothing,
    /// This part of the address is missing.
    Incomplete(&'static str),
}

impl From<ShippingError> for Failure {
    fn from(error: ShippingError) -> Self {
        match error {
            ShippingError::TooMuch => Self::new(422, "That is more than one parcel can hold."),
            ShippingError::Nothing => Self::new(422, "There is nothing to send."),
            ShippingError::Incomplete(part) => Self::new(422, format!("The address lacks its {part}.")),
        }
    }
}

/// What sending these lines costs, in US dollars. Nothing costs nothing.
pub fn quote(lines: &[Line]) -> Result<Money, ShippingError> {
    let too_much = lines.len() > LINES_MAX || lines.iter().any(|line| line.quantity > QUANTITY_MAX);
    if too_much {
        return Err(ShippingError::TooMuch);
    }
    let pieces: u32 = lines.iter().map(|line| line.quantity).sum();
    let nanos = match pieces {
        0 => 0,
        pieces => BASE_NANOS + PIECE_NANOS * i128::from(pieces.min(PALLET_PIECES) - 1),
    };
    Money::from_nanos(nanos, Code(*b"USD")).map_err(|_| ShippingError::TooMuch)
}

/// Sends the lines to the address. The number follows the international form: two letters, nine digits of which the
/// last is a check digit, two letters.
pub fn ship(ids: &Ids, address: &Address, lines: &[Line]) -> Result<TrackingId, ShippingError> {
    if quote(lines)?.total_nanos().is_ok_and(|nanos| nanos == 0) {
        return Err(ShippingError::Nothing);
    }
    let parts = [
        ("street", address.street.is_empty()),
        ("city", address.city.is_empty()),
        ("country", address.country.is_empty()),
        ("postal code", address.postcode.is_empty()),
    ];
    if let Some((part, _)) = parts.iter().find(|(_, missing)| *missing) {
        return Err(ShippingError::Incomplete(part));
    }
    let serial = ids.bits() % 100_000_000;
    let text = format!("BT{serial:08}{}EU", check_digit(serial));
    Ok(Text::new(&text).unwrap_or(Text::EMPTY))
}

/// The check digit of an eight-digit serial number (UPU standard S10).
fn check_digit(serial: u64) -> u64 {
    let weights = [7, 9, 5, 3, 2, 4, 6, 8];
    let (sum, _) =
        weights.iter().fold((0, serial), |(sum, rest), weight| (sum + rest % 10 * weight, rest / 10));
    match 11 - sum % 11 {
        10 => 0,
        11 => 5,
        digit => digit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(quantity: u32) -> Line {
        Line { quantity, product: Text::literal("mug") }
    }

    fn address() -> Address {
        Address {
            street: Text::literal("1 Relay Road"),
            city: Text::literal("Toronto"),
            region: Text::EMPTY,
            country: Text::literal("Canada"),
            postcode: Text::literal("M4B 1B3"),
        }
    }

    #[test]
    fn a_parcel_costs_its_base_and_its_pieces() {
        let check = |lines: &[Line], expect: &str| {
            assert_eq!(quote(lines).unwrap().to_string().replace('\u{a0}', " "), expect);
        };
        check(&[], "USD 0.00");
        check(&[line(1)], "USD 4.99");
        check(&[line(2), line(3)], "USD 9.99");
        check(&[line(99), line(99)], "USD 53.74");
        assert_eq!(quote(&[line(u32::MAX)]), Err(ShippingError::TooMuch));
        assert_eq!(quote(&[line(1); LINES_MAX + 1]), Err(ShippingError::TooMuch));
    }

    #[test]
    fn tracking_numbers_carry_their_check_digit() {
        // The example of the standard: 473124829.
        assert_eq!(check_digit(47_312_482), 9);
        let id = ship(&Ids::new(), &address(), &[line(1)]).unwrap();
        assert!(id.as_str().len() == 13 && id.as_str().starts_with("BT") && id.as_str().ends_with("EU"));
    }

    #[test]
    fn parcels_to_nowhere_and_empty_parcels_are_refused() {
        let nowhere = Address { city: Text::EMPTY, ..address() };
        assert_eq!(ship(&Ids::new(), &nowhere, &[line(1)]), Err(ShippingError::Incomplete("city")));
        assert_eq!(ship(&Ids::new(), &address(), &[]), Err(ShippingError::Nothing));
    }
}

//! The layouts that travel between the functions. They are read where they lie: no parsing, no pointers, no padding
//! that is not named. Fixed parts come first; what varies in number is a slice at the end.
//!
//! | function | operation | request | reply |
//! |---|---|---|---|
//! | catalog | [`LIST`], [`GET`], [`SEARCH`] | –, [`ProductId`], UTF-8 | `[Product]`, [`Product`], `[Product]` |
//! | currency | [`LIST`], [`CONVERT`] | –, [`Conversion`] | `[Code]`, [`Money`] |
//! | cart | [`GET`], [`ADD`], [`EMPTY`] | [`UserId`], [`CartAdd`], [`UserId`] | `[Line]`, –, – |
//! | recommendation | [`LIST`] | `[ProductId]` | `[Product]` |
//! | shipping | [`QUOTE`], [`SHIP`] | `[Line]`, [`Parcel`] | [`Money`], [`TrackingId`] |
//! | checkout | [`ORDER`] | [`Purchase`] | [`Order`] |
//! | payment | [`PAY`] | [`Charge`] | [`PaymentId`] |
//! | email | [`SEND`], [`LAST`] | [`Order`], – | [`MailId`], UTF-8 |
//! | ad | [`LIST`] | [`Categories`] | `[Ad]` |

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::failure::Failure;
use crate::money::{Code, Money};
use crate::services::Layout;
use crate::text::Text;

/// List what there is (catalog, currency, recommendation, ad).
pub const LIST: u16 = 1;
/// Get one (catalog, cart).
pub const GET: u16 = 2;
/// Products whose name, description or category contains a word.
pub const SEARCH: u16 = 3;
/// Convert an amount.
pub const CONVERT: u16 = 2;
/// Add a line to a cart.
pub const ADD: u16 = 3;
/// Empty a cart.
pub const EMPTY: u16 = 4;
/// What sending these lines costs.
pub const QUOTE: u16 = 1;
/// Send a parcel.
pub const SHIP: u16 = 2;
/// Place an order.
pub const ORDER: u16 = 1;
/// Charge a card.
pub const PAY: u16 = 1;
/// Send the confirmation of an order.
pub const SEND: u16 = 1;
/// The text of the mail sent last.
pub const LAST: u16 = 2;

/// What travelled, where it lies, as the layout `T`. Nothing is copied; sizes and alignment are checked.
pub fn read<T: Layout + ?Sized>(bytes: &[u8]) -> Result<&T, Failure> {
    // No bytes may lie anywhere; an empty slice still has to be aligned.
    const NOTHING: &[u64] = &[];
    let bytes = if bytes.is_empty() { NOTHING.as_bytes() } else { bytes };
    T::ref_from_bytes(bytes).map_err(|_| Failure::layout(core::any::type_name::<T>()))
}

/// Names a product, in URLs too: letters and digits.
pub type ProductId = Text<23>;
/// Names a visitor: the id of the session.
pub type UserId = Text<39>;
/// Names a parcel.
pub type TrackingId = Text<23>;
/// Names a payment.
pub type PaymentId = Text<35>;
/// Names an order.
pub type OrderId = Text<35>;
/// Names a mail.
pub type MailId = Text<35>;

/// A set of product categories, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Categories(pub u32);

/// Names of the categories by bit.
pub const CATEGORIES: [&str; 7] = ["home", "kitchen", "garden", "desk", "sound", "wear", "travel"];

impl Categories {
    /// The names of the categories in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CATEGORIES.iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name)
    }
}

/// One product of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Product {
    /// In US dollars.
    pub price: Money,
    /// Where it belongs.
    pub categories: Categories,
    pub(crate) pad: [u8; 4],
    /// Its name in URLs.
    pub id: ProductId,
    /// Its name for people.
    pub name: Text<47>,
    /// Which drawing shows it.
    pub picture: Text<15>,
    /// A few sentences.
    pub description: Text<199>,
}

impl Product {
    /// A product put together from its parts.
    pub const fn new(
        id: ProductId,
        name: Text<47>,
        picture: Text<15>,
        price: Money,
        categories: Categories,
    ) -> Self {
        Self { price, categories, pad: [0; 4], id, name, picture, description: Text::EMPTY }
    }
}

/// So many of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Line {
    /// How many.
    pub quantity: u32,
    /// Of which product.
    pub product: ProductId,
}

/// Add a line to a visitor's cart.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CartAdd {
    /// Whose cart.
    pub user: UserId,
    /// What to put into it.
    pub line: Line,
}

/// Convert an amount into another currency.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Conversion {
    /// What to convert.
    pub amount: Money,
    /// Into what.
    pub to: Code,
    pad: [u8; 5],
}

impl Conversion {
    /// Convert `amount` into `to`.
    pub const fn new(amount: Money, to: Code) -> Self {
        Self { amount, to, pad: [0; 5] }
    }
}

/// Where a parcel goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Address {
    /// Street and number.
    pub street: Text<63>,
    /// City.
    pub city: Text<39>,
    /// State, province or county; may be empty.
    pub region: Text<39>,
    /// Country.
    pub country: Text<39>,
    /// Postal code.
    pub postcode: Text<11>,
}

/// Send these lines to that address.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Parcel {
    /// Where to.
    pub address: Address,
    /// What.
    pub lines: [Line],
}

/// A payment card.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Card {
    /// Year of expiry, four digits.
    pub year: u16,
    /// Month of expiry, 1 to 12.
    pub month: u8,
    /// Card verification value.
    pub cvv: Text<4>,
    /// Its number; blanks and hyphens are skipped.
    pub number: Text<31>,
}

/// Cards never show their number, not even in logs.
impl core::fmt::Debug for Card {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Card(…)")
    }
}

/// Charge a card.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Charge {
    /// How much.
    pub amount: Money,
    /// Which card.
    pub card: Card,
}

/// Order what is in the visitor's cart.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Purchase {
    /// Whose cart.
    pub user: UserId,
    /// Pays in this currency.
    pub currency: Code,
    pub(crate) pad: [u8; 1],
    /// With this card.
    pub card: Card,
    /// Wants it sent here.
    pub address: Address,
    /// Wants to hear about it here.
    pub email: Text<79>,
}

/// What an order consists of besides its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OrderHead {
    /// What sending it costs.
    pub shipping: Money,
    /// Everything together.
    pub total: Money,
    /// Its id.
    pub id: OrderId,
    /// Its parcel.
    pub tracking: TrackingId,
    /// Its payment.
    pub payment: PaymentId,
    /// Where it goes.
    pub address: Address,
    /// Who hears about it.
    pub email: Text<79>,
    pub(crate) pad: [u8; 4],
}

/// So many of one product at what each cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OrderLine {
    /// For one, in the currency of the order.
    pub price: Money,
    /// How many.
    pub quantity: u32,
    pub(crate) pad: [u8; 4],
    /// Of which product.
    pub product: ProductId,
    /// Its name for people.
    pub name: Text<47>,
    /// Which drawing shows it.
    pub picture: Text<15>,
}

/// A placed order. Checkout writes it, e-mail and front end read the same bytes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Order {
    /// Everything but the lines.
    pub head: OrderHead,
    /// The lines.
    pub lines: [OrderLine],
}

impl Order {
    /// Bytes of an order of so many lines.
    pub const fn size(lines: usize) -> usize {
        size_of::<OrderHead>() + lines * size_of::<OrderLine>()
    }
}

/// An advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ad {
    /// What it leads to.
    pub product: ProductId,
    /// What it says.
    pub text: Text<71>,
}

/// The layouts are an interface between separately built programs: a change of size is a change of the interface.
const _: () = {
    assert!(size_of::<Product>() == 312);
    assert!(size_of::<Line>() == 28);
    assert!(size_of::<CartAdd>() == 68);
    assert!(size_of::<Conversion>() == 24);
    assert!(size_of::<Address>() == 196);
    assert!(size_of::<Charge>() == 56);
    assert!(size_of::<Purchase>() == 360);
    assert!(size_of::<OrderHead>() == 408);
    assert!(size_of::<OrderLine>() == 112);
    assert!(size_of::<Ad>() == 96);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travelled_is_read_in_place_or_refused() {
        let lines = [Line { quantity: 2, product: Text::literal("mug") }; 3];
        assert_eq!(read::<[Line]>(lines.as_bytes()).unwrap(), lines);
        assert!(read::<[Line]>(&[]).unwrap().is_empty());
        assert_eq!(read::<[Line]>(&lines.as_bytes()[..29]).unwrap_err().status, 400);
        assert_eq!(read::<[Line]>(&lines.as_bytes()[1..29]).unwrap_err().status, 400);
        assert!(read::<Money>(&[]).is_err());
        assert!(read::<Order>(&[0; 64]).is_err());
    }
}

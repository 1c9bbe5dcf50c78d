//! The messages of the gRPC version, as a protobuf definition would have them.

use bytes::Bytes;
use prost::Message;

/// Nothing.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}

/// A name: of a product, a visitor, a parcel, a payment, a mail; or a word to search for.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Id {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

/// Names of products.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ids {
    #[prost(string, repeated, tag = "1")]
    pub(crate) ids: Vec<String>,
}

/// An amount.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Money {
    #[prost(string, tag = "1")]
    pub(crate) currency: String,
    #[prost(int64, tag = "2")]
    pub(crate) units: i64,
    #[prost(int32, tag = "3")]
    pub(crate) nanos: i32,
}

/// One product.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Product {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, tag = "3")]
    pub(crate) description: String,
    #[prost(string, tag = "4")]
    pub(crate) picture: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) price: Option<Money>,
    #[prost(uint32, tag = "6")]
    pub(crate) categories: u32,
}

/// Several products.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Products {
    #[prost(message, repeated, tag = "1")]
    pub(crate) products: Vec<Product>,
}

/// Codes of currencies.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Codes {
    #[prost(string, repeated, tag = "1")]
    pub(crate) codes: Vec<String>,
}

/// Convert an amount.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Conversion {
    #[prost(message, optional, tag = "1")]
    pub(crate) amount: Option<Money>,
    #[prost(string, tag = "2")]
    pub(crate) to: String,
}

/// So many of one product.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Line {
    #[prost(string, tag = "1")]
    pub(crate) product: String,
    #[prost(uint32, tag = "2")]
    pub(crate) quantity: u32,
}

/// What is in a cart.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Lines {
    #[prost(message, repeated, tag = "1")]
    pub(crate) lines: Vec<Line>,
}

/// Add a line to a cart.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CartAdd {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) line: Option<Line>,
}

/// Where a parcel goes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Address {
    #[prost(string, tag = "1")]
    pub(crate) street: String,
    #[prost(string, tag = "2")]
    pub(crate) city: String,
    #[prost(string, tag = "3")]
    pub(crate) region: String,
    #[prost(string, tag = "4")]
    pub(crate) country: String,
    #[prost(string, tag = "5")]
    pub(crate) postcode: String,
}

/// Send these lines to that address.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Parcel {
    #[prost(message, optional, tag = "1")]
    pub(crate) address: Option<Address>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) lines: Vec<Line>,
}

/// A payment card.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Card {
    #[prost(string, tag = "1")]
    pub(crate) number: String,
    #[prost(string, tag = "2")]
    pub(crate) cvv: String,
    #[prost(uint32, tag = "3")]
    pub(crate) year: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) month: u32,
}

/// Charge a card.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Charge {
    #[prost(message, optional, tag = "1")]
    pub(crate) amount: Option<Money>,
    #[prost(message, optional, tag = "2")]
    pub(crate) card: Option<Card>,
}

/// Order what is in a cart.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Purchase {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(string, tag = "2")]
    pub(crate) currency: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) card: Option<Card>,
    #[prost(message, optional, tag = "4")]
    pub(crate) address: Option<Address>,
    #[prost(string, tag = "5")]
    pub(crate) email: String,
}

/// One line of an order.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OrderLine {
    #[prost(message, optional, tag = "1")]
    pub(crate) price: Option<Money>,
    #[prost(uint32, tag = "2")]
    pub(crate) quantity: u32,
    #[prost(string, tag = "3")]
    pub(crate) product: String,
    #[prost(string, tag = "4")]
    pub(crate) name: String,
    #[prost(string, tag = "5")]
    pub(crate) picture: String,
}

/// A placed order.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Order {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) tracking: String,
    #[prost(string, tag = "3")]
    pub(crate) payment: String,
    #[prost(string, tag = "4")]
    pub(crate) email: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) address: Option<Address>,
    #[prost(message, optional, tag = "6")]
    pub(crate) shipping: Option<Money>,
    #[prost(message, optional, tag = "7")]
    pub(crate) total: Option<Money>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) lines: Vec<OrderLine>,
}

/// A set of categories.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Categories {
    #[prost(uint32, tag = "1")]
    pub(crate) bits: u32,
}

/// One advertisement.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ad {
    #[prost(string, tag = "1")]
    pub(crate) product: String,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
}

/// Several advertisements.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ads {
    #[prost(message, repeated, tag = "1")]
    pub(crate) ads: Vec<Ad>,
}

/// Messages that a codec has handled so far.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Handled {
    #[prost(uint64, tag = "1")]
    pub(crate) encoded: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) decoded: u64,
}

/// Bytes to carry, decoded without a copy.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) bytes: Bytes,
}

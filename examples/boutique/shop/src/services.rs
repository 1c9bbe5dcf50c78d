//! Every call that the boutique's functions make to each other: the seam between what they do and what carries it.

use core::ops::{Deref, DerefMut};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::failure::Failure;
use crate::money::{Code, Money};
use crate::wire::{
    Ad, Address, Card, Categories, Line, Order, PaymentId, Product, ProductId, Purchase, TrackingId, UserId,
};

/// What a carrier can bring back to be read in place.
pub trait Layout: FromBytes + IntoBytes + KnownLayout + Immutable {}
impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + ?Sized> Layout for T {}

/// Carries the calls. A function uses only those that its `calls` edges in the manifest allow.
#[expect(
    async_fn_in_trait,
    reason = "functions run on one thread; no caller needs Send futures in generic code"
)]
pub trait Services {
    /// A reply that is kept for as long as it is read.
    type Held<T: Layout + ?Sized>: Deref<Target = T>;
    /// An order that is being written.
    type Draft: DerefMut<Target = Order>;

    /// Currency: the codes it knows.
    async fn currencies(&self) -> Result<Self::Held<[Code]>, Failure>;
    /// Currency: `amount` in another currency.
    async fn convert(&self, amount: Money, to: Code) -> Result<Money, Failure>;
    /// Catalog: the products on show.
    async fn products(&self) -> Result<Self::Held<[Product]>, Failure>;
    /// Catalog: one product.
    async fn product(&self, id: ProductId) -> Result<Self::Held<Product>, Failure>;
    /// Catalog: products that match a word.
    async fn search(&self, word: &str) -> Result<Self::Held<[Product]>, Failure>;
    /// Cart: its lines.
    async fn cart(&self, user: UserId) -> Result<Self::Held<[Line]>, Failure>;
    /// Cart: puts a line into it.
    async fn add_to_cart(&self, user: UserId, line: Line) -> Result<(), Failure>;
    /// Cart: empties it.
    async fn empty_cart(&self, user: UserId) -> Result<(), Failure>;
    /// Recommendation: products that go with these.
    async fn recommend(&self, with: &[ProductId]) -> Result<Self::Held<[Product]>, Failure>;
    /// Shipping: what sending these lines costs, in US dollars.
    async fn quote(&self, lines: &[Line]) -> Result<Money, Failure>;
    /// Shipping: sends them.
    async fn ship(&self, address: &Address, lines: &[Line]) -> Result<TrackingId, Failure>;
    /// Checkout: orders what is in the cart.
    async fn checkout(&self, purchase: &Purchase) -> Result<Self::Held<Order>, Failure>;
    /// Payment: charges a card.
    async fn pay(&self, amount: Money, card: &Card) -> Result<PaymentId, Failure>;
    /// E-mail: confirms an order.
    async fn confirm(&self, order: &Self::Draft) -> Result<(), Failure>;
    /// Ad: what fits these categories.
    async fn ads(&self, categories: Categories) -> Result<Self::Held<[Ad]>, Failure>;

    /// Room for an order of so many lines, all zero.
    fn draft(&self, lines: usize) -> Result<Self::Draft, Failure>;
}

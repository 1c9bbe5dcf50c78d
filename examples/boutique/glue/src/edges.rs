//! The shop's calls along the edges that the manifest declares.

use baton::{Call, Context, Payload, Reply};
use boutique_shop::wire::{
    self, Ad, Address, Card, CartAdd, Categories, Charge, Conversion, Line, MailId, Order, PaymentId,
    Product, ProductId, Purchase, TrackingId, UserId,
};
use boutique_shop::{Code, Failure, Layout, Money, Services};
use zerocopy::IntoBytes;

use crate::failure;
use crate::held::{Draft, Held};

/// Carries calls for one request.
#[derive(Debug, Clone, Copy)]
pub struct Edges<'a> {
    context: &'a Context,
}

impl<'a> Edges<'a> {
    /// Carries the calls of the request that `context` belongs to.
    pub fn new(context: &'a Context) -> Self {
        Self { context }
    }

    /// A call without a payload.
    async fn ask(&self, function: &str, operation: u16) -> Result<Reply, Failure> {
        self.run(self.context.call(function, ()), operation).await
    }

    /// A call with a layout as its payload.
    async fn send<T: Layout + ?Sized>(
        &self,
        function: &str,
        operation: u16,
        value: &T,
    ) -> Result<Reply, Failure> {
        // No lines are no payload.
        if size_of_val(value) == 0 {
            return self.ask(function, operation).await;
        }
        let payload: Payload<'_> = self.context.value(value).map_err(failure)?.into();
        self.run(self.context.call(function, payload), operation).await
    }

    async fn run(&self, call: Call<'_>, operation: u16) -> Result<Reply, Failure> {
        call.operation(operation).await.map_err(failure)
    }
}

/// A small reply, copied out so that its buffer goes back at once.
fn taken<T: Layout + Copy>(reply: &Reply) -> Result<T, Failure> {
    wire::read::<T>(reply.body()).copied().map_err(|failure| Failure::new(502, failure.message))
}

impl Services for Edges<'_> {
    type Held<T: Layout + ?Sized> = Held<T>;
    type Draft = Draft;

    async fn currencies(&self) -> Result<Held<[Code]>, Failure> {
        Held::new(self.ask("currency", wire::LIST).await?)
    }

    async fn convert(&self, amount: Money, to: Code) -> Result<Money, Failure> {
        taken(&self.send("currency", wire::CONVERT, &Conversion::new(amount, to)).await?)
    }

    async fn products(&self) -> Result<Held<[Product]>, Failure> {
        Held::new(self.ask("catalog", wire::LIST).await?)
    }

    async fn product(&self, id: ProductId) -> Result<Held<Product>, Failure> {
        Held::new(self.send("catalog", wire::GET, &id).await?)
    }

    async fn search(&self, word: &str) -> Result<Held<[Product]>, Failure> {
        Held::new(self.send("catalog", wire::SEARCH, word.as_bytes()).await?)
    }

    async fn cart(&self, user: UserId) -> Result<Held<[Line]>, Failure> {
        Held::new(self.send("cart", wire::GET, &user).await?)
    }

    async fn add_to_cart(&self, user: UserId, line: Line) -> Result<(), Failure> {
        self.send("cart", wire::ADD, &CartAdd { user, line }).await.map(drop)
    }

    async fn empty_cart(&self, user: UserId) -> Result<(), Failure> {
        self.send("cart", wire::EMPTY, &user).await.map(drop)
    }

    async fn recommend(&self, with: &[ProductId]) -> Result<Held<[Product]>, Failure> {
        Held::new(self.send("recommendation", wire::LIST, with).await?)
    }

    async fn quote(&self, lines: &[Line]) -> Result<Money, Failure> {
        taken(&self.send("shipping", wire::QUOTE, lines).await?)
    }

    async fn ship(&self, address: &Address, lines: &[Line]) -> Result<TrackingId, Failure> {
        // The layout of `Parcel`, written part by part: the address, then the lines.
        let mut parcel = self.context.alloc(size_of_val(address) + size_of_val(lines)).map_err(failure)?;
        parcel.extend_from_slice(address.as_bytes()).map_err(failure)?;
        parcel.extend_from_slice(lines.as_bytes()).map_err(failure)?;
        taken(&self.run(self.context.call("shipping", parcel), wire::SHIP).await?)
    }

    async fn checkout(&self, purchase: &Purchase) -> Result<Held<Order>, Failure> {
        Held::new(self.send("checkout", wire::ORDER, purchase).await?)
    }

    async fn pay(&self, amount: Money, card: &Card) -> Result<PaymentId, Failure> {
        taken(&self.send("payment", wire::PAY, &Charge { amount, card: *card }).await?)
    }

    async fn confirm(&self, order: &Draft) -> Result<(), Failure> {
        // Lent: e-mail reads the very bytes that become checkout's reply.
        let call = self.context.call("email", order.buffer());
        taken::<MailId>(&self.run(call, wire::SEND).await?).map(drop)
    }

    async fn ads(&self, categories: Categories) -> Result<Held<[Ad]>, Failure> {
        Held::new(self.send("ad", wire::LIST, &categories).await?)
    }

    fn draft(&self, lines: usize) -> Result<Draft, Failure> {
        Draft::new(self.context.zeroed(Order::size(lines)).map_err(failure)?)
    }
}

//! The whole shop in one process: every call is a function call. For tests, and to see what the bodies alone cost.

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use zerocopy::FromZeros;

use crate::cart::Carts;
use crate::catalog::Catalog;
use crate::email::Outbox;
use crate::failure::Failure;
use crate::ids::Ids;
use crate::money::{Code, Money};
use crate::payment::Month;
use crate::services::{Layout, Services};
use crate::wire::{
    Ad, Address, Card, CartAdd, Categories, Charge, Conversion, Line, Order, PaymentId, Product, ProductId,
    Purchase, TrackingId, UserId,
};
use crate::{ad, checkout, currency, payment, recommendation, shipping};

/// How often each call was made, by `function.operation`.
pub type Calls = BTreeMap<&'static str, usize>;

/// All ten functions' state, and a count of the calls between them.
#[derive(Debug, Default)]
pub struct Local {
    catalog: Catalog,
    carts: RefCell<Carts>,
    outbox: RefCell<Outbox>,
    ids: Ids,
    turn: Cell<usize>,
    calls: RefCell<Calls>,
}

impl Local {
    /// The calls made since they were last taken.
    pub fn take_calls(&self) -> Calls {
        self.calls.take()
    }

    /// The mail sent last.
    pub fn last_mail(&self) -> Option<String> {
        self.outbox.borrow().last().map(str::to_owned)
    }

    fn count(&self, call: &'static str) {
        *self.calls.borrow_mut().entry(call).or_default() += 1;
    }

    fn next_turn(&self) -> usize {
        self.turn.set(self.turn.get().wrapping_add(1));
        self.turn.get()
    }
}

impl Services for Local {
    type Held<T: Layout + ?Sized> = Box<T>;
    type Draft = Box<Order>;

    async fn currencies(&self) -> Result<Box<[Code]>, Failure> {
        self.count("currency.list");
        Ok(Box::new(currency::codes()))
    }

    async fn convert(&self, amount: Money, to: Code) -> Result<Money, Failure> {
        self.count("currency.convert");
        Ok(currency::convert(&Conversion::new(amount, to))?)
    }

    async fn products(&self) -> Result<Box<[Product]>, Failure> {
        self.count("catalog.list");
        Ok(self.catalog.list().into())
    }

    async fn product(&self, id: ProductId) -> Result<Box<Product>, Failure> {
        self.count("catalog.get");
        Ok(Box::new(*self.catalog.get(&id)?))
    }

    async fn search(&self, word: &str) -> Result<Box<[Product]>, Failure> {
        self.count("catalog.search");
        Ok(self.catalog.search(word)?.copied().collect())
    }

    async fn cart(&self, user: UserId) -> Result<Box<[Line]>, Failure> {
        self.count("cart.get");
        Ok(self.carts.borrow_mut().get(&user).into())
    }

    async fn add_to_cart(&self, user: UserId, line: Line) -> Result<(), Failure> {
        self.count("cart.add");
        Ok(self.carts.borrow_mut().add(&CartAdd { user, line })?)
    }

    async fn empty_cart(&self, user: UserId) -> Result<(), Failure> {
        self.count("cart.empty");
        self.carts.borrow_mut().empty(&user);
        Ok(())
    }

    async fn recommend(&self, with: &[ProductId]) -> Result<Box<[Product]>, Failure> {
        self.count("recommendation.list");
        let mut products = Vec::new();
        recommendation::recommend(self, with, self.next_turn(), |product| {
            products.push(*product);
            Ok(())
        })
        .await?;
        Ok(products.into())
    }

    async fn quote(&self, lines: &[Line]) -> Result<Money, Failure> {
        self.count("shipping.quote");
        Ok(shipping::quote(lines)?)
    }

    async fn ship(&self, address: &Address, lines: &[Line]) -> Result<TrackingId, Failure> {
        self.count("shipping.ship");
        Ok(shipping::ship(&self.ids, address, lines)?)
    }

    async fn checkout(&self, purchase: &Purchase) -> Result<Box<Order>, Failure> {
        self.count("checkout.order");
        checkout::place(self, &self.ids, purchase).await
    }

    async fn pay(&self, amount: Money, card: &Card) -> Result<PaymentId, Failure> {
        self.count("payment.pay");
        Ok(payment::pay(&self.ids, &Charge { amount, card: *card }, Month { year: 2026, month: 1 })?)
    }

    async fn confirm(&self, order: &Box<Order>) -> Result<(), Failure> {
        self.count("email.send");
        self.outbox.borrow_mut().send(order).map(drop)
    }

    async fn ads(&self, categories: Categories) -> Result<Box<[Ad]>, Failure> {
        self.count("ad.list");
        Ok(ad::ads(categories, self.next_turn()).copied().collect())
    }

    fn draft(&self, lines: usize) -> Result<Box<Order>, Failure> {
        Order::new_box_zeroed_with_elems(lines)
            .map_err(|_| Failure::new(500, "There is no room for the order."))
    }
}

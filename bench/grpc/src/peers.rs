//! Carries the boutique's calls by gRPC: one kept HTTP/2 connection for each peer, calls multiplexed on it.

use std::collections::HashMap;

use boutique_shop::wire;
use boutique_shop::{Code, Failure, Layout, Money, Services};
use tonic::transport::{Channel, Endpoint};

use crate::convert as c;
use crate::messages as m;
use crate::proto::{
    ad_client::AdClient, cart_client::CartClient, catalog_client::CatalogClient,
    checkout_client::CheckoutClient, currency_client::CurrencyClient, email_client::EmailClient,
    payment_client::PaymentClient, recommendation_client::RecommendationClient,
    shipping_client::ShippingClient,
};

/// The peers' channels by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    channels: HashMap<String, Channel>,
}

/// Opens a channel. It connects at the first call, without Nagle's delay.
pub(crate) fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect_lazy())
}

impl Peers {
    /// Reads `name=host:port,…`.
    pub(crate) fn parse(list: &str) -> Result<Self, String> {
        let mut channels = HashMap::new();
        for entry in list.split(',').filter(|entry| !entry.is_empty()) {
            let (name, address) = entry.split_once('=').ok_or(format!("`{entry}` is not NAME=HOST:PORT"))?;
            let channel = channel(address).map_err(|error| format!("`{address}` is no address: {error}"))?;
            channels.insert(name.to_owned(), channel);
        }
        Ok(Self { channels })
    }

    fn to(&self, name: &str) -> Result<Channel, Failure> {
        let missing = || Failure::new(502, format!("No peer is called {name}. Name it in --peers."));
        self.channels.get(name).cloned().ok_or_else(missing)
    }
}

/// Makes a call: a client on a peer's channel, its method, the request.
macro_rules! call {
    ($peers:expr, $name:literal, $client:ident . $method:ident ( $request:expr )) => {
        $client::new($peers.to($name)?)
            .$method($request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| c::failure(&status))
    };
}

fn id(text: &str) -> m::Id {
    m::Id { id: text.to_owned() }
}

impl Services for Peers {
    type Held<T: Layout + ?Sized> = Box<T>;
    type Draft = Box<wire::Order>;

    async fn currencies(&self) -> Result<Box<[Code]>, Failure> {
        let codes = call!(self, "currency", CurrencyClient.list(m::Empty {}))?;
        codes.codes.iter().map(|code| c::code(code)).collect()
    }

    async fn convert(&self, amount: Money, to: Code) -> Result<Money, Failure> {
        let request = m::Conversion { amount: Some(c::to_money(&amount)), to: to.as_str().to_owned() };
        c::money(Some(call!(self, "currency", CurrencyClient.convert(request))?))
    }

    async fn products(&self) -> Result<Box<[wire::Product]>, Failure> {
        c::products(call!(self, "catalog", CatalogClient.list(m::Empty {}))?)
    }

    async fn product(&self, product: wire::ProductId) -> Result<Box<wire::Product>, Failure> {
        c::product(call!(self, "catalog", CatalogClient.get(id(product.as_str())))?).map(Box::new)
    }

    async fn search(&self, word: &str) -> Result<Box<[wire::Product]>, Failure> {
        c::products(call!(self, "catalog", CatalogClient.search(id(word)))?)
    }

    async fn cart(&self, user: wire::UserId) -> Result<Box<[wire::Line]>, Failure> {
        c::lines(&call!(self, "cart", CartClient.get(id(user.as_str())))?.lines)
    }

    async fn add_to_cart(&self, user: wire::UserId, line: wire::Line) -> Result<(), Failure> {
        let request = m::CartAdd { user: user.as_str().to_owned(), line: Some(c::to_line(&line)) };
        call!(self, "cart", CartClient.add(request)).map(drop)
    }

    async fn empty_cart(&self, user: wire::UserId) -> Result<(), Failure> {
        call!(self, "cart", CartClient.empty(id(user.as_str()))).map(drop)
    }

    async fn recommend(&self, with: &[wire::ProductId]) -> Result<Box<[wire::Product]>, Failure> {
        let ids = with.iter().map(|id| id.as_str().to_owned()).collect();
        c::products(call!(self, "recommendation", RecommendationClient.list(m::Ids { ids }))?)
    }

    async fn quote(&self, lines: &[wire::Line]) -> Result<Money, Failure> {
        let request = m::Lines { lines: lines.iter().map(c::to_line).collect() };
        c::money(Some(call!(self, "shipping", ShippingClient.quote(request))?))
    }

    async fn ship(&self, address: &wire::Address, lines: &[wire::Line]) -> Result<wire::TrackingId, Failure> {
        let lines = lines.iter().map(c::to_line).collect();
        let request = m::Parcel { address: Some(c::to_address(address)), lines };
        c::text(&call!(self, "shipping", ShippingClient.ship(request))?.id)
    }

    async fn checkout(&self, purchase: &wire::Purchase) -> Result<Box<wire::Order>, Failure> {
        c::order(call!(self, "checkout", CheckoutClient.order(c::to_purchase(purchase)))?)
    }

    async fn pay(&self, amount: Money, card: &wire::Card) -> Result<wire::PaymentId, Failure> {
        let request = m::Charge { amount: Some(c::to_money(&amount)), card: Some(c::to_card(card)) };
        c::text(&call!(self, "payment", PaymentClient.pay(request))?.id)
    }

    async fn confirm(&self, order: &Box<wire::Order>) -> Result<(), Failure> {
        call!(self, "email", EmailClient.send(c::to_order(order))).map(drop)
    }

    async fn ads(&self, categories: wire::Categories) -> Result<Box<[wire::Ad]>, Failure> {
        let ads = call!(self, "ad", AdClient.list(m::Categories { bits: categories.0 }))?;
        let layout = |ad: &m::Ad| Ok(wire::Ad { product: c::text(&ad.product)?, text: c::text(&ad.text)? });
        ads.ads.iter().map(layout).collect()
    }

    fn draft(&self, lines: usize) -> Result<Box<wire::Order>, Failure> {
        c::draft(lines)
    }
}

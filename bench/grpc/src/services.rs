//! The nine functions behind the front end as gRPC services, with the bodies of `boutique-shop`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use boutique_shop::cart::Carts;
use boutique_shop::email::Outbox;
use boutique_shop::payment::Month;
use boutique_shop::{Code, Ids, ad, catalog, checkout, currency, payment, recommendation, shipping, wire};
use tonic::{Request, Response, Status};

use crate::convert as c;
use crate::messages as m;
use crate::peers::Peers;
use crate::proto;

/// What a method answers.
type Answer<T> = Result<Response<T>, Status>;

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id(text: &str) -> Response<m::Id> {
    Response::new(m::Id { id: text.to_owned() })
}

fn products<'a>(products: impl IntoIterator<Item = &'a wire::Product>) -> Response<m::Products> {
    Response::new(m::Products { products: products.into_iter().map(c::to_product).collect() })
}

/// Catalog.
#[derive(Debug, Default)]
pub(crate) struct Catalog(catalog::Catalog);

#[tonic::async_trait]
impl proto::catalog_server::Catalog for Catalog {
    async fn list(&self, _: Request<m::Empty>) -> Answer<m::Products> {
        Ok(products(self.0.list()))
    }

    async fn get(&self, request: Request<m::Id>) -> Answer<m::Product> {
        let id = c::text(&request.get_ref().id).map_err(c::status)?;
        Ok(Response::new(c::to_product(self.0.get(&id).map_err(c::status)?)))
    }

    async fn search(&self, request: Request<m::Id>) -> Answer<m::Products> {
        Ok(products(self.0.search(&request.get_ref().id).map_err(c::status)?))
    }
}

/// Currency.
#[derive(Debug, Default)]
pub(crate) struct Currency;

#[tonic::async_trait]
impl proto::currency_server::Currency for Currency {
    async fn list(&self, _: Request<m::Empty>) -> Answer<m::Codes> {
        let codes = currency::codes().iter().map(|code| code.as_str().to_owned()).collect();
        Ok(Response::new(m::Codes { codes }))
    }

    async fn convert(&self, request: Request<m::Conversion>) -> Answer<m::Money> {
        let m::Conversion { amount, to } = request.into_inner();
        let amount = c::money(amount).map_err(c::status)?;
        let to: Code = c::code(&to).map_err(c::status)?;
        let converted = currency::convert(&wire::Conversion::new(amount, to)).map_err(c::status)?;
        Ok(Response::new(c::to_money(&converted)))
    }
}

/// Cart.
#[derive(Debug, Default)]
pub(crate) struct Cart(Mutex<Carts>);

#[tonic::async_trait]
impl proto::cart_server::Cart for Cart {
    async fn get(&self, request: Request<m::Id>) -> Answer<m::Lines> {
        let user = c::text(&request.get_ref().id).map_err(c::status)?;
        let lines = lock(&self.0).get(&user).iter().map(c::to_line).collect();
        Ok(Response::new(m::Lines { lines }))
    }

    async fn add(&self, request: Request<m::CartAdd>) -> Answer<m::Empty> {
        let add = c::cart_add(request.into_inner()).map_err(c::status)?;
        lock(&self.0).add(&add).map_err(c::status)?;
        Ok(Response::new(m::Empty {}))
    }

    async fn empty(&self, request: Request<m::Id>) -> Answer<m::Empty> {
        let user = c::text(&request.get_ref().id).map_err(c::status)?;
        lock(&self.0).empty(&user);
        Ok(Response::new(m::Empty {}))
    }
}

/// Recommendation.
#[derive(Debug)]
pub(crate) struct Recommendation {
    pub(crate) peers: Peers,
    pub(crate) turn: AtomicUsize,
}

#[tonic::async_trait]
impl proto::recommendation_server::Recommendation for Recommendation {
    async fn list(&self, request: Request<m::Ids>) -> Answer<m::Products> {
        let with: Result<Vec<_>, _> = request.get_ref().ids.iter().map(|id| c::text(id)).collect();
        let (with, turn) = (with.map_err(c::status)?, self.turn.fetch_add(1, Ordering::Relaxed));
        let mut chosen = Vec::new();
        recommendation::recommend(&self.peers, &with, turn, |product| {
            chosen.push(c::to_product(product));
            Ok(())
        })
        .await
        .map_err(c::status)?;
        Ok(Response::new(m::Products { products: chosen }))
    }
}

/// Shipping.
#[derive(Debug, Default)]
pub(crate) struct Shipping(Ids);

#[tonic::async_trait]
impl proto::shipping_server::Shipping for Shipping {
    async fn quote(&self, request: Request<m::Lines>) -> Answer<m::Money> {
        let lines = c::lines(&request.get_ref().lines).map_err(c::status)?;
        Ok(Response::new(c::to_money(&shipping::quote(&lines).map_err(c::status)?)))
    }

    async fn ship(&self, request: Request<m::Parcel>) -> Answer<m::Id> {
        let parcel = request.into_inner();
        let (address, lines) = (c::address(parcel.address), c::lines(&parcel.lines));
        let (address, lines) = (address.map_err(c::status)?, lines.map_err(c::status)?);
        Ok(id(shipping::ship(&self.0, &address, &lines).map_err(c::status)?.as_str()))
    }
}

/// Checkout.
#[derive(Debug)]
pub(crate) struct Checkout {
    pub(crate) peers: Peers,
    pub(crate) ids: Ids,
}

#[tonic::async_trait]
impl proto::checkout_server::Checkout for Checkout {
    async fn order(&self, request: Request<m::Purchase>) -> Answer<m::Order> {
        let purchase = c::purchase(request.into_inner()).map_err(c::status)?;
        let order = checkout::place(&self.peers, &self.ids, &purchase).await.map_err(c::status)?;
        Ok(Response::new(c::to_order(&order)))
    }
}

/// Payment.
#[derive(Debug, Default)]
pub(crate) struct Payment(Ids);

#[tonic::async_trait]
impl proto::payment_server::Payment for Payment {
    async fn pay(&self, request: Request<m::Charge>) -> Answer<m::Id> {
        let charge = c::charge(request.into_inner()).map_err(c::status)?;
        Ok(id(payment::pay(&self.0, &charge, Month::now()).map_err(c::status)?.as_str()))
    }
}

/// E-mail.
#[derive(Debug, Default)]
pub(crate) struct Email(Mutex<Outbox>);

#[tonic::async_trait]
impl proto::email_server::Email for Email {
    async fn send(&self, request: Request<m::Order>) -> Answer<m::Id> {
        let order = c::order(request.into_inner()).map_err(c::status)?;
        Ok(id(lock(&self.0).send(&order).map_err(c::status)?.as_str()))
    }
}

/// Ad.
#[derive(Debug, Default)]
pub(crate) struct Ad(AtomicUsize);

#[tonic::async_trait]
impl proto::ad_server::Ad for Ad {
    async fn list(&self, request: Request<m::Categories>) -> Answer<m::Ads> {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        let to_ad = |ad: &wire::Ad| m::Ad { product: ad.product.to_string(), text: ad.text.to_string() };
        let ads = ad::ads(wire::Categories(request.get_ref().bits), turn).map(to_ad).collect();
        Ok(Response::new(m::Ads { ads }))
    }
}

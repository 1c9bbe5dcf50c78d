//! Front end: the shop as a person sees it. One request in, the calls of its chain, one page out.
//!
//! | request | body | calls |
//! |---|---|---|
//! | `GET /` | [`index`] | Currency.List, Cart.Get, Catalog.List, Convert × 9, Ad: 13 |
//! | `POST /currency` | [`set_currency`] | none |
//! | `GET /product/{id}` | [`product`] | Catalog.Get, Currency.List, Cart.Get, Convert, Recommend → Catalog.List, Ad: 7 |
//! | `GET /cart` | [`view_cart`] | Currency.List, Cart.Get, Recommend → Catalog.List, Quote, Convert, N × (Catalog.Get, Convert): 6 + 2N |
//! | `POST /cart` | [`add_to_cart`] | Catalog.Get, Cart.Add: 2 |
//! | `POST /checkout` | [`checkout`] | Checkout (7 + 2N of its own), Recommend → Catalog.List, Currency.List: 11 + 2N |
//! | `GET /search?q=` | [`search`] | Currency.List, Cart.Get, Search, Convert × found |
//! | `POST /cart/empty` | [`empty_cart`] | Cart.Empty |
//!
//! Calls that do not need each other's replies run in parallel. A page is rendered only once every reply is there,
//! straight into the memory that leaves the machine (a [`Paper`]'s sheet), so a failure never leaves half a page.

use core::fmt;
use std::borrow::Cow;

use crate::failure::Failure;
use crate::ids::Ids;
use crate::services::Services;

mod bodies;
mod form;
mod html;
mod json;
mod pictures;
mod views;
mod visit;

#[cfg(test)]
mod tests;

pub use bodies::{add_to_cart, checkout, empty_cart, index, product, search, set_currency, view_cart};
pub use form::Form;
pub use visit::Visit;

/// Largest form that is read, in bytes.
const FORM_BYTES_MAX: usize = 8 * 1024;

/// An HTTP request, as much of it as the shop looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// `GET`, `HEAD` or `POST`.
    pub method: &'a str,
    /// Path without the query.
    pub path: &'a str,
    /// Query without the question mark.
    pub query: Option<&'a str>,
    /// The `cookie` header.
    pub cookie: Option<&'a str>,
    /// The `accept` header.
    pub accept: Option<&'a str>,
    /// The `content-type` header.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// An HTTP answer without its body, which is on the paper, or nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The `content-type` of what is on the paper; none if nothing is.
    pub content_type: Option<&'static str>,
    /// Where to go on, with 303.
    pub location: Option<Cow<'static, str>>,
    /// Values of `set-cookie` headers.
    pub cookies: Vec<String>,
}

impl Answer {
    /// A page is on the paper.
    fn page(status: u16, visit: &Visit) -> Self {
        let content_type = if visit.json { "application/json" } else { "text/html; charset=utf-8" };
        Self { status, content_type: Some(content_type), location: None, cookies: visit.new_cookie() }
    }

    /// Nothing is on the paper; the browser goes on to `location`.
    fn see_other(location: impl Into<Cow<'static, str>>, visit: &Visit) -> Self {
        Self { status: 303, content_type: None, location: Some(location.into()), cookies: visit.new_cookie() }
    }
}

/// Where a page is written. The memory is asked for once it is known how much is needed at most.
pub trait Paper {
    /// What takes the text.
    type Sheet: fmt::Write;
    /// An empty sheet of at least so many bytes; one given before is thrown away.
    fn sheet(&mut self, bytes: usize) -> Result<&mut Self::Sheet, Failure>;
}

/// Text on the heap.
impl Paper for String {
    type Sheet = Self;
    fn sheet(&mut self, bytes: usize) -> Result<&mut Self, Failure> {
        self.clear();
        self.reserve(bytes);
        Ok(self)
    }
}

/// Serves one request, whatever is asked: what fails becomes an error page with the status that fits.
pub async fn respond<S: Services, P: Paper>(services: &S, ids: &Ids, ask: &Ask<'_>, paper: &mut P) -> Answer {
    let visit = Visit::new(ask, ids);
    let failure = match route(services, &visit, ask, paper).await {
        Ok(answer) => return answer,
        Err(failure) => failure,
    };
    let written =
        paper.sheet(views::ERROR_BYTES).and_then(|sheet| Ok(views::error(sheet, &visit, &failure)?));
    match written {
        Ok(()) => Answer::page(failure.status, &visit),
        Err(_) => Answer { status: failure.status, content_type: None, location: None, cookies: Vec::new() },
    }
}

/// Finds the body for a request.
async fn route<S: Services, P: Paper>(
    services: &S,
    visit: &Visit,
    ask: &Ask<'_>,
    paper: &mut P,
) -> Result<Answer, Failure> {
    let get = matches!(ask.method, "GET" | "HEAD");
    match ask.path {
        "/" if get => index(services, visit, paper).await,
        "/cart" if get => view_cart(services, visit, paper).await,
        "/search" if get => search(services, visit, ask.query.unwrap_or(""), paper).await,
        "/cart" if ask.method == "POST" => add_to_cart(services, visit, form::body(ask)?).await,
        "/cart/empty" if ask.method == "POST" => empty_cart(services, visit).await,
        "/checkout" if ask.method == "POST" => checkout(services, visit, form::body(ask)?, paper).await,
        "/currency" if ask.method == "POST" => set_currency(visit, form::body(ask)?),
        "/" | "/cart" | "/cart/empty" | "/checkout" | "/currency" | "/search" => Err(wrong_method()),
        path => match path.strip_prefix("/product/").filter(|id| !id.is_empty() && !id.contains('/')) {
            Some(id) if get => product(services, visit, id, paper).await,
            Some(_) => Err(wrong_method()),
            None => Err(Failure::new(404, "There is nothing here. The shop window is one click away.")),
        },
    }
}

/// The path exists, the method does not fit.
fn wrong_method() -> Failure {
    Failure::new(405, "That cannot be done here. Look with GET, act with POST.")
}

/// Whether there is a drawing of this name.
pub fn has_picture(name: &str) -> bool {
    pictures::picture(name) != pictures::UNKNOWN
}

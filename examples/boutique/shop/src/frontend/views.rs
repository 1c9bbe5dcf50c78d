//! The pages. Each has a JSON form with the same content.

use core::fmt::{Result, Write};

use crate::cart::ADD_MAX;
use crate::failure::Failure;
use crate::frontend::html::{Esc, put};
use crate::frontend::json;
use crate::frontend::pictures::picture;
use crate::frontend::visit::Visit;
use crate::money::{Code, Money};
use crate::wire::{Ad, Line, Order, OrderLine, Product};

/// Room for the frame of a page: style, header with every currency, footer.
const FRAME_BYTES: usize = 6 * 1024;
/// Room for one product on a page.
const ITEM_BYTES: usize = 960;
/// Room for an error page.
pub(super) const ERROR_BYTES: usize = FRAME_BYTES;

/// Room for a page with so many products.
pub(super) const fn page_bytes(items: usize) -> usize {
    FRAME_BYTES + items * ITEM_BYTES
}

/// A product with its price for this visitor.
pub(super) struct Priced<'a> {
    pub(super) product: &'a Product,
    pub(super) price: Money,
    pub(super) quantity: u32,
}

/// What is around every page.
pub(super) struct Frame<'a> {
    pub(super) visit: &'a Visit,
    pub(super) currencies: &'a [Code],
    pub(super) pieces: u32,
    back: &'static str,
}

impl<'a> Frame<'a> {
    /// The frame for this visitor; `back` is where the currency form returns to.
    pub(super) fn new(visit: &'a Visit, currencies: &'a [Code], lines: &[Line], back: &'static str) -> Self {
        let pieces = lines.iter().fold(0u32, |pieces, line| pieces.saturating_add(line.quantity));
        Self { visit, currencies, pieces, back }
    }

    /// Everything above the page's own content.
    fn open(&self, out: &mut impl Write, title: &str) -> Result {
        put!(out, HEAD_A, Esc(title), HEAD_B, SEARCH);
        if !self.currencies.is_empty() {
            put!(
                out,
                r#"<form action="/currency" method="post"><input type="hidden" name="back" value=""#,
                self.back
            );
            put!(out, r#""><select name="currency_code" aria-label="Currency">"#);
            for code in self.currencies {
                let open = if *code == self.visit.currency { "<option selected>" } else { "<option>" };
                put!(out, open, *code, "</option>");
            }
            put!(out, "</select><button>Set</button></form>");
        }
        put!(out, r#"<a class="bag" href="/cart">Cart"#);
        if !self.currencies.is_empty() {
            put!(out, " · ", self.pieces);
        }
        put!(out, "</a></header>\n<main id=\"main\">");
        Ok(())
    }
}

const HEAD_A: &str = concat!(
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">",
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">",
    "<meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; ",
    "img-src data:; form-action 'self'; base-uri 'none'\"><link rel=\"icon\" href=\"data:,\"><title>",
);
const HEAD_B: &str = concat!(
    " · Relay Goods</title><style>",
    include_str!("style.css"),
    "</style></head><body><a class=\"skip\" href=\"#main\">Skip to the goods</a><header>",
    r##"<a class="logo" href="/"><svg viewBox="0 0 96 96" aria-hidden="true"><g transform="rotate(-35 48 48)">"##,
    r##"<rect x="8" y="36" width="80" height="24" rx="12" fill="#d9622b"/><path d="M32 36h10v24H32zM52 36h10v24H52z" "##,
    r##"fill="#ffd977"/></g></svg>Relay Goods</a>"##,
);
const SEARCH: &str = concat!(
    r#"<form action="/search" role="search"><input type="search" name="q" maxlength="40" required "#,
    r#"aria-label="Search the shop" placeholder="Search"><button>Find</button></form>"#,
);
const CLOSE: &str = concat!(
    "</main>\n<footer>Relay Goods is a demonstration: ten functions hand every page on through shared memory. ",
    "Nothing is sold, nothing is charged. Prices follow the euro reference rates of 13 June 2024.</footer>",
    "</body></html>\n",
);

/// A card that leads to a product; with its price if that is known.
fn card(out: &mut impl Write, product: &Product, price: Option<Money>) -> Result {
    put!(out, r#"<li><a class="card" href="/product/"#, Esc(product.id.as_str()), "\">");
    put!(out, picture(product.picture.as_str()), "<b>", Esc(product.name.as_str()), "</b>");
    if let Some(price) = price {
        put!(out, "<span>", price, "</span>");
    }
    put!(out, "</a></li>\n");
    Ok(())
}

/// A row of products without prices.
fn also(out: &mut impl Write, title: &'static str, others: &[Product]) -> Result {
    if others.is_empty() {
        return Ok(());
    }
    put!(out, "<h2>", title, "</h2><ul class=\"grid few\">");
    others.iter().try_for_each(|other| card(out, other, None))?;
    put!(out, "</ul>");
    Ok(())
}

/// The first advertisement.
fn advert(out: &mut impl Write, ads: &[Ad]) -> Result {
    if let Some(ad) = ads.first() {
        put!(out, r#"<p class="ad">"#, Esc(ad.text.as_str()), r#" <a href="/product/"#);
        put!(out, Esc(ad.product.as_str()), r#"">Have a look</a></p>"#);
    }
    Ok(())
}

/// The products on show.
pub(super) fn index(out: &mut impl Write, frame: &Frame<'_>, goods: &[Priced<'_>], ads: &[Ad]) -> Result {
    if frame.visit.json {
        return json::goods(out, frame, goods, ads);
    }
    frame.open(out, "Things worth passing on")?;
    put!(out, r#"<div class="hero"><h1>Things worth passing on</h1><p class="soft">Made once, made well, "#);
    put!(out, "and handed from one pair of hands to the next.</p></div><ul class=\"grid\">");
    goods.iter().try_for_each(|item| card(out, item.product, Some(item.price)))?;
    put!(out, "</ul>");
    advert(out, ads)?;
    put!(out, CLOSE);
    Ok(())
}

/// What search found.
pub(super) fn found(out: &mut impl Write, frame: &Frame<'_>, word: &str, goods: &[Priced<'_>]) -> Result {
    if frame.visit.json {
        return json::goods(out, frame, goods, &[]);
    }
    frame.open(out, "Search")?;
    put!(out, "<h1>“", Esc(word), "”</h1>");
    if goods.is_empty() {
        put!(out, r#"<p class="soft">Nothing in the shop matches. <a href="/">See what there is.</a></p>"#);
    }
    put!(out, "<ul class=\"grid\">");
    goods.iter().try_for_each(|item| card(out, item.product, Some(item.price)))?;
    put!(out, "</ul>", CLOSE);
    Ok(())
}

/// One product.
pub(super) fn product(
    out: &mut impl Write,
    frame: &Frame<'_>,
    item: &Priced<'_>,
    others: &[Product],
    ads: &[Ad],
) -> Result {
    if frame.visit.json {
        return json::product(out, frame, item, others, ads);
    }
    let product = item.product;
    frame.open(out, product.name.as_str())?;
    put!(
        out,
        r#"<div class="two">"#,
        picture(product.picture.as_str()),
        "<div><h1>",
        Esc(product.name.as_str())
    );
    put!(out, r#"</h1><p class="price">"#, item.price, "</p><p>", Esc(product.description.as_str()), "</p>");
    put!(out, r#"<form action="/cart" method="post"><input type="hidden" name="product_id" value=""#);
    put!(out, Esc(product.id.as_str()), r#""><select name="quantity" aria-label="Quantity">"#);
    for quantity in 1..=ADD_MAX {
        put!(out, "<option>", quantity, "</option>");
    }
    put!(out, r#"</select><button class="go">Add to cart</button></form></div></div>"#);
    also(out, "Goes well with", others)?;
    advert(out, ads)?;
    put!(out, CLOSE);
    Ok(())
}

/// The cart, and the form to order what is in it.
pub(super) fn cart(
    out: &mut impl Write,
    frame: &Frame<'_>,
    rows: &[Priced<'_>],
    (shipping, total): (Money, Money),
    others: &[Product],
) -> Result {
    if frame.visit.json {
        return json::cart(out, frame, rows, (shipping, total), others);
    }
    frame.open(out, "Cart")?;
    put!(out, "<h1>Your cart</h1>");
    if rows.is_empty() {
        put!(out, r#"<p class="soft">There is nothing in it yet. <a href="/">See what there is.</a></p>"#);
    } else {
        put!(out, r#"<div class="two"><div>"#);
        for row in rows {
            let product = row.product;
            put!(out, r#"<div class="row">"#, picture(product.picture.as_str()), r#"<p><a href="/product/"#);
            put!(
                out,
                Esc(product.id.as_str()),
                "\">",
                Esc(product.name.as_str()),
                "</a><br>",
                row.quantity,
                " × "
            );
            put!(out, row.price, "</p></div>");
        }
        put!(
            out,
            r#"<p class="row"><span>Shipping</span><b>"#,
            shipping,
            r#"</b></p><p class="row"><span>Total"#
        );
        put!(
            out,
            r#"</span><b class="price">"#,
            total,
            r#"</b></p><form action="/cart/empty" method="post">"#
        );
        put!(out, "<button>Empty the cart</button></form></div>", ORDER_FORM, "</div>");
    }
    also(out, "You may also like", others)?;
    put!(out, CLOSE);
    Ok(())
}

/// Filled in with an address and a card for testing: the shop is a demonstration.
const ORDER_FORM: &str = concat!(
    r#"<form class="pay" action="/checkout" method="post"><label class="w">E-mail<input type="email" name="email" maxlength="79" required autocomplete="email" value="someone@example.com"></label>"#,
    r#"<label class="w">Street<input name="street_address" maxlength="63" required autocomplete="street-address" value="1600 Relay Road"></label>"#,
    r#"<label>City<input name="city" maxlength="39" required value="Mountain View"></label><label>Postal code<input name="zip_code" maxlength="11" required value="94043"></label>"#,
    r#"<label>State<input name="state" maxlength="39" value="CA"></label><label>Country<input name="country" maxlength="39" required value="United States"></label>"#,
    r#"<label class="w">Card number<input name="credit_card_number" maxlength="31" required inputmode="numeric" autocomplete="cc-number" value="4432-8015-6152-0454"></label>"#,
    r#"<label class="n">Month<input name="credit_card_expiration_month" required inputmode="numeric" pattern="[0-9]{1,2}" value="1"></label>"#,
    r#"<label class="n">Year<input name="credit_card_expiration_year" required inputmode="numeric" pattern="[0-9]{4}" value="2039"></label>"#,
    r#"<label class="n">CVV<input name="credit_card_cvv" required inputmode="numeric" pattern="[0-9]{3}" value="672"></label><button class="go">Place the order</button></form>"#,
);

/// A placed order.
pub(super) fn order(out: &mut impl Write, frame: &Frame<'_>, order: &Order, others: &[Product]) -> Result {
    if frame.visit.json {
        return json::order(out, order, others);
    }
    let head = &order.head;
    frame.open(out, "Thank you")?;
    put!(out, r#"<h1>Thank you!</h1><p class="soft">Your order is on its way. A confirmation goes to "#);
    put!(out, Esc(head.email.as_str()), r#".</p><p>Order <code id="order">"#, Esc(head.id.as_str()));
    put!(out, "</code><br>Parcel <code>", Esc(head.tracking.as_str()), "</code></p>");
    order.lines.iter().try_for_each(|line| order_line(out, line))?;
    put!(
        out,
        r#"<p class="row"><span>Shipping</span><b>"#,
        head.shipping,
        r#"</b></p><p class="row"><span>Paid"#
    );
    put!(out, r#"</span><b class="price">"#, head.total, "</b></p>");
    also(out, "Until next time", others)?;
    put!(out, CLOSE);
    Ok(())
}

fn order_line(out: &mut impl Write, line: &OrderLine) -> Result {
    put!(out, r#"<div class="row">"#, picture(line.picture.as_str()), "<p>", Esc(line.name.as_str()), "<br>");
    put!(out, line.quantity, " × ", line.price, "</p></div>");
    Ok(())
}

/// What went wrong, and the way back. Makes no call, so that it can be shown whatever is down.
pub(super) fn error(out: &mut impl Write, visit: &Visit, failure: &Failure) -> Result {
    if visit.json {
        return json::error(out, failure);
    }
    Frame::new(visit, &[], &[], "/").open(out, "Sorry")?;
    let title = match failure.status {
        404 => "There is no such thing",
        400..=499 => "That did not work",
        _ => "Something broke, and it was us",
    };
    let message = failure.message.get(..failure.message.floor_char_boundary(200)).unwrap_or("");
    put!(out, "<h1>", title, r#"</h1><p class="soft">"#, Esc(message), " (", u32::from(failure.status));
    put!(out, r#")</p><p><a href="/">Back to the shop</a></p>"#, CLOSE);
    Ok(())
}

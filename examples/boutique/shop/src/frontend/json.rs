//! The pages as JSON, for whoever asks for `application/json`.

use core::fmt::{Result, Write};

use crate::failure::Failure;
use crate::frontend::html::{Json, put};
use crate::frontend::views::{Frame, Priced};
use crate::money::Money;
use crate::wire::{Ad, Order, Product};

/// An amount: units and billionths as numbers.
fn money(out: &mut impl Write, amount: &Money) -> Result {
    put!(out, r#"{"currency":""#, amount.currency);
    write!(out, r#"","units":{},"nanos":{}}}"#, amount.units, amount.nanos)
}

/// `[…]` of what `item` writes.
fn list<W: Write, T>(out: &mut W, items: &[T], mut item: impl FnMut(&mut W, &T) -> Result) -> Result {
    put!(out, "[");
    for (nth, one) in items.iter().enumerate() {
        put!(out, if nth == 0 { "" } else { "," });
        item(out, one)?;
    }
    put!(out, "]");
    Ok(())
}

fn named(out: &mut impl Write, product: &Product) -> Result {
    put!(out, r#"{"id":"#, Json(product.id.as_str()), r#","name":"#, Json(product.name.as_str()), "}");
    Ok(())
}

fn priced(out: &mut impl Write, item: &Priced<'_>) -> Result {
    put!(out, r#"{"id":"#, Json(item.product.id.as_str()), r#","name":"#, Json(item.product.name.as_str()));
    put!(out, r#","quantity":"#, item.quantity, r#","price":"#);
    money(out, &item.price)?;
    put!(out, "}");
    Ok(())
}

/// Currency, cart size and known currencies: what the frame of a page shows.
fn frame(out: &mut impl Write, frame: &Frame<'_>) -> Result {
    put!(
        out,
        r#"{"currency":""#,
        frame.visit.currency,
        r#"","cart_size":"#,
        frame.pieces,
        r#","currencies":"#
    );
    list(out, frame.currencies, |out, code| {
        put!(out, "\"", *code, "\"");
        Ok(())
    })
}

fn adverts(out: &mut impl Write, ads: &[Ad]) -> Result {
    put!(out, r#","ads":"#);
    list(out, ads, |out, ad| {
        put!(out, r#"{"product":"#, Json(ad.product.as_str()), r#","text":"#, Json(ad.text.as_str()), "}");
        Ok(())
    })
}

fn recommended(out: &mut impl Write, others: &[Product]) -> Result {
    put!(out, r#","recommended":"#);
    list(out, others, named)
}

/// Products on show, or found.
pub(super) fn goods(out: &mut impl Write, around: &Frame<'_>, goods: &[Priced<'_>], ads: &[Ad]) -> Result {
    frame(out, around)?;
    put!(out, r#","products":"#);
    list(out, goods, priced)?;
    adverts(out, ads)?;
    put!(out, "}\n");
    Ok(())
}

/// One product.
pub(super) fn product(
    out: &mut impl Write,
    around: &Frame<'_>,
    item: &Priced<'_>,
    others: &[Product],
    ads: &[Ad],
) -> Result {
    frame(out, around)?;
    put!(out, r#","product":"#);
    priced(out, item)?;
    put!(out, r#","description":"#, Json(item.product.description.as_str()));
    recommended(out, others)?;
    adverts(out, ads)?;
    put!(out, "}\n");
    Ok(())
}

/// The cart.
pub(super) fn cart(
    out: &mut impl Write,
    around: &Frame<'_>,
    rows: &[Priced<'_>],
    (shipping, total): (Money, Money),
    others: &[Product],
) -> Result {
    frame(out, around)?;
    put!(out, r#","lines":"#);
    list(out, rows, priced)?;
    put!(out, r#","shipping":"#);
    money(out, &shipping)?;
    put!(out, r#","total":"#);
    money(out, &total)?;
    recommended(out, others)?;
    put!(out, "}\n");
    Ok(())
}

/// A placed order.
pub(super) fn order(out: &mut impl Write, order: &Order, others: &[Product]) -> Result {
    let head = &order.head;
    put!(out, r#"{"order":"#, Json(head.id.as_str()), r#","tracking":"#, Json(head.tracking.as_str()));
    put!(out, r#","payment":"#, Json(head.payment.as_str()), r#","email":"#, Json(head.email.as_str()));
    put!(out, r#","lines":"#);
    list(out, &order.lines, |out, line| {
        put!(out, r#"{"id":"#, Json(line.product.as_str()), r#","name":"#, Json(line.name.as_str()));
        put!(out, r#","quantity":"#, line.quantity, r#","price":"#);
        money(out, &line.price)?;
        put!(out, "}");
        Ok(())
    })?;
    put!(out, r#","shipping":"#);
    money(out, &head.shipping)?;
    put!(out, r#","total":"#);
    money(out, &head.total)?;
    recommended(out, others)?;
    put!(out, "}\n");
    Ok(())
}

/// What went wrong.
pub(super) fn error(out: &mut impl Write, failure: &Failure) -> Result {
    put!(
        out,
        r#"{"error":{"status":"#,
        u32::from(failure.status),
        r#","message":"#,
        Json(&failure.message),
        "}}\n"
    );
    Ok(())
}

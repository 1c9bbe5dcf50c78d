//! Between protobuf messages and the shop's layouts. It costs some tens of nanoseconds a message, beside a call of
//! tens of microseconds, so it does not tilt the comparison.

use boutique_shop::wire;
use boutique_shop::{Code, Failure, Money, Text};
use zerocopy::FromZeros;

use crate::messages as m;

/// The header of a status that carries the HTTP status of a failure.
const HTTP_STATUS: &str = "http-status";

/// A failure as gRPC reports it.
pub(crate) fn status(failure: impl Into<Failure>) -> tonic::Status {
    let Failure { status, message } = failure.into();
    let code = match status {
        404 => tonic::Code::NotFound,
        409 => tonic::Code::ResourceExhausted,
        400..=499 => tonic::Code::InvalidArgument,
        _ => tonic::Code::Internal,
    };
    let mut reported = tonic::Status::new(code, message);
    reported.metadata_mut().insert(HTTP_STATUS, status.into());
    reported
}

/// What gRPC reports as a failure; what is not one of the shop's is the carrier's: 502.
pub(crate) fn failure(status: &tonic::Status) -> Failure {
    let http = status.metadata().get(HTTP_STATUS).and_then(|value| value.to_str().ok()?.parse().ok());
    Failure::new(http.unwrap_or(502), status.message())
}

pub(crate) fn text<const N: usize>(text: &str) -> Result<Text<N>, Failure> {
    Text::new(text).map_err(|error| Failure::new(422, format!("A text of {} bytes is too long.", error.len)))
}

pub(crate) fn code(text: &str) -> Result<Code, Failure> {
    Code::parse(text).ok_or_else(|| Failure::new(422, "A currency code is three capital letters."))
}

/// A message within a message that must be there.
fn some<T>(part: Option<T>) -> Result<T, Failure> {
    part.ok_or_else(|| Failure::new(400, "A part of the message is missing."))
}

pub(crate) fn money(amount: Option<m::Money>) -> Result<Money, Failure> {
    let amount = some(amount)?;
    Ok(Money::new(amount.units, amount.nanos, code(&amount.currency)?))
}

pub(crate) fn to_money(amount: &Money) -> m::Money {
    m::Money { currency: amount.currency.as_str().to_owned(), units: amount.units, nanos: amount.nanos }
}

pub(crate) fn product(product: m::Product) -> Result<wire::Product, Failure> {
    let price = money(product.price)?;
    let categories = wire::Categories(product.categories);
    let mut layout = wire::Product::new(
        text(&product.id)?,
        text(&product.name)?,
        text(&product.picture)?,
        price,
        categories,
    );
    layout.description = text(&product.description)?;
    Ok(layout)
}

pub(crate) fn to_product(product: &wire::Product) -> m::Product {
    m::Product {
        id: product.id.as_str().to_owned(),
        name: product.name.as_str().to_owned(),
        description: product.description.as_str().to_owned(),
        picture: product.picture.as_str().to_owned(),
        price: Some(to_money(&product.price)),
        categories: product.categories.0,
    }
}

pub(crate) fn products(products: m::Products) -> Result<Box<[wire::Product]>, Failure> {
    products.products.into_iter().map(product).collect()
}

pub(crate) fn line(line: &m::Line) -> Result<wire::Line, Failure> {
    Ok(wire::Line { quantity: line.quantity, product: text(&line.product)? })
}

pub(crate) fn to_line(line: &wire::Line) -> m::Line {
    m::Line { product: line.product.as_str().to_owned(), quantity: line.quantity }
}

pub(crate) fn lines(lines: &[m::Line]) -> Result<Box<[wire::Line]>, Failure> {
    lines.iter().map(line).collect()
}

pub(crate) fn cart_add(add: m::CartAdd) -> Result<wire::CartAdd, Failure> {
    Ok(wire::CartAdd { user: text(&add.user)?, line: line(&some(add.line)?)? })
}

pub(crate) fn address(address: Option<m::Address>) -> Result<wire::Address, Failure> {
    let address = some(address)?;
    Ok(wire::Address {
        street: text(&address.street)?,
        city: text(&address.city)?,
        region: text(&address.region)?,
        country: text(&address.country)?,
        postcode: text(&address.postcode)?,
    })
}

pub(crate) fn to_address(address: &wire::Address) -> m::Address {
    m::Address {
        street: address.street.as_str().to_owned(),
        city: address.city.as_str().to_owned(),
        region: address.region.as_str().to_owned(),
        country: address.country.as_str().to_owned(),
        postcode: address.postcode.as_str().to_owned(),
    }
}

pub(crate) fn card(card: Option<m::Card>) -> Result<wire::Card, Failure> {
    let card = some(card)?;
    let (year, month) = (u16::try_from(card.year).unwrap_or(0), u8::try_from(card.month).unwrap_or(0));
    Ok(wire::Card { year, month, cvv: text(&card.cvv)?, number: text(&card.number)? })
}

pub(crate) fn to_card(card: &wire::Card) -> m::Card {
    m::Card {
        number: card.number.as_str().to_owned(),
        cvv: card.cvv.as_str().to_owned(),
        year: card.year.into(),
        month: card.month.into(),
    }
}

pub(crate) fn charge(charge: m::Charge) -> Result<wire::Charge, Failure> {
    Ok(wire::Charge { amount: money(charge.amount)?, card: card(charge.card)? })
}

pub(crate) fn purchase(purchase: m::Purchase) -> Result<wire::Purchase, Failure> {
    Ok(wire::Purchase::new(
        text(&purchase.user)?,
        code(&purchase.currency)?,
        card(purchase.card)?,
        address(purchase.address)?,
        text(&purchase.email)?,
    ))
}

pub(crate) fn to_purchase(purchase: &wire::Purchase) -> m::Purchase {
    m::Purchase {
        user: purchase.user.as_str().to_owned(),
        currency: purchase.currency.as_str().to_owned(),
        card: Some(to_card(&purchase.card)),
        address: Some(to_address(&purchase.address)),
        email: purchase.email.as_str().to_owned(),
    }
}

/// Room for an order of so many lines, all zero.
pub(crate) fn draft(lines: usize) -> Result<Box<wire::Order>, Failure> {
    wire::Order::new_box_zeroed_with_elems(lines)
        .map_err(|_| Failure::new(500, "There is no room for the order."))
}

pub(crate) fn order(order: m::Order) -> Result<Box<wire::Order>, Failure> {
    let mut layout = draft(order.lines.len())?;
    let head = &mut layout.head;
    head.shipping = money(order.shipping)?;
    head.total = money(order.total)?;
    head.id = text(&order.id)?;
    head.tracking = text(&order.tracking)?;
    head.payment = text(&order.payment)?;
    head.address = address(order.address)?;
    head.email = text(&order.email)?;
    for (slot, line) in layout.lines.iter_mut().zip(order.lines) {
        slot.price = money(line.price)?;
        slot.quantity = line.quantity;
        slot.product = text(&line.product)?;
        slot.name = text(&line.name)?;
        slot.picture = text(&line.picture)?;
    }
    Ok(layout)
}

pub(crate) fn to_order(order: &wire::Order) -> m::Order {
    let head = &order.head;
    let to_line = |line: &wire::OrderLine| m::OrderLine {
        price: Some(to_money(&line.price)),
        quantity: line.quantity,
        product: line.product.as_str().to_owned(),
        name: line.name.as_str().to_owned(),
        picture: line.picture.as_str().to_owned(),
    };
    m::Order {
        id: head.id.as_str().to_owned(),
        tracking: head.tracking.as_str().to_owned(),
        payment: head.payment.as_str().to_owned(),
        email: head.email.as_str().to_owned(),
        address: Some(to_address(&head.address)),
        shipping: Some(to_money(&head.shipping)),
        total: Some(to_money(&head.total)),
        lines: order.lines.iter().map(to_line).collect(),
    }
}

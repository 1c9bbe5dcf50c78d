//! E-mail: writes the confirmation of an order. Mails go into an outbox in memory, of which the last ones are kept.

use core::fmt::{self, Write};
use std::collections::VecDeque;

use crate::failure::Failure;
use crate::ids::Ids;
use crate::wire::{MailId, Order};

/// Mails that the outbox keeps.
pub const OUTBOX_MAX: usize = 64;
/// Room for the text of an order of the most lines.
const MAIL_BYTES: usize = 4 * 1024;

/// The mails sent last.
#[derive(Debug, Default)]
pub struct Outbox {
    mails: VecDeque<String>,
    ids: Ids,
}

impl Outbox {
    /// Writes the confirmation of `order` and puts it into the outbox.
    pub fn send(&mut self, order: &Order) -> Result<MailId, Failure> {
        if !order.head.email.as_str().contains('@') {
            return Err(Failure::new(422, "The order has no e-mail address."));
        }
        // The oldest mail's memory serves the newest.
        let mut mail = match self.mails.len() < OUTBOX_MAX {
            true => String::with_capacity(MAIL_BYTES),
            false => self.mails.pop_front().unwrap_or_default(),
        };
        mail.clear();
        render(order, &mut mail)?;
        self.mails.push_back(mail);
        Ok(self.ids.hex())
    }

    /// The mail sent last.
    pub fn last(&self) -> Option<&str> {
        self.mails.back().map(String::as_str)
    }
}

/// Writes a text on one line: what a visitor typed must not add header lines.
fn one_line(out: &mut impl Write, text: &str) -> fmt::Result {
    text.split(char::is_control).try_for_each(|part| out.write_str(part))
}

/// Writes the whole mail: headers, then plain text.
pub fn render(order: &Order, out: &mut impl Write) -> fmt::Result {
    let head = &order.head;
    out.write_str("From: Relay Goods <orders@relay.example>\r\nTo: ")?;
    one_line(out, head.email.as_str())?;
    out.write_str("\r\nSubject: Your order ")?;
    one_line(out, head.id.as_str())?;
    out.write_str("\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThank you for your order.\r\n\r\n")?;
    for line in &order.lines {
        write!(out, "{:>3} × {:<28} ", line.quantity, line.name.as_str())?;
        line.price.write(out)?;
        out.write_str("\r\n")?;
    }
    out.write_str("\r\n      Shipping: ")?;
    head.shipping.write(out)?;
    out.write_str("\r\n      Total:    ")?;
    head.total.write(out)?;
    out.write_str("\r\n\r\nIt goes to:\r\n")?;
    let address = &head.address;
    for part in [
        &address.street.as_str(),
        &address.city.as_str(),
        &address.region.as_str(),
        &address.country.as_str(),
    ] {
        if !part.is_empty() {
            one_line(out, part)?;
            out.write_str("\r\n")?;
        }
    }
    one_line(out, address.postcode.as_str())?;
    out.write_str("\r\n\r\nFollow your parcel with the number ")?;
    one_line(out, head.tracking.as_str())?;
    out.write_str(".\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Code, Money};
    use crate::text::Text;
    use zerocopy::FromZeros;

    fn order(email: &str) -> Box<Order> {
        let mut order = Order::new_box_zeroed_with_elems(2).unwrap();
        order.head.email = Text::new(email).unwrap();
        order.head.total = Money::new(23, 490_000_000, Code(*b"CAD"));
        for line in &mut order.lines {
            line.name = Text::literal("Stoneware mug");
            line.quantity = 2;
            line.price = Money::new(9, 250_000_000, Code(*b"CAD"));
        }
        order
    }

    #[test]
    fn the_confirmation_names_goods_and_total() {
        let mut outbox = Outbox::default();
        outbox.send(&order("ann@example.com")).unwrap();
        let mail = outbox.last().unwrap().replace('\u{a0}', " ");
        for part in ["To: ann@example.com\r\n", "  2 × Stoneware mug", "CAD 9.25", "Total:    CAD 23.49"] {
            assert!(mail.contains(part), "{part} in {mail}");
        }
    }

    #[test]
    fn line_breaks_in_an_address_add_no_header() {
        let mut mail = String::new();
        render(&order("a@b.c\r\nBcc: all@b.c"), &mut mail).unwrap();
        assert!(mail.contains("To: a@b.cBcc: all@b.c\r\n"));
    }

    #[test]
    fn the_outbox_keeps_the_last_mails_only() {
        let mut outbox = Outbox::default();
        for nth in 0..3 * OUTBOX_MAX {
            outbox.send(&order(&format!("u{nth}@example.com"))).unwrap();
        }
        assert_eq!(outbox.mails.len(), OUTBOX_MAX);
        assert!(outbox.last().unwrap().contains("u191@example.com"));
        assert_eq!(outbox.send(&order("nobody")).unwrap_err().status, 422);
    }
}

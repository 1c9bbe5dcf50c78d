//! The Online Boutique as a load: its six chains, their weights, a visitor per connection.
//!
//! Each chain is one HTTP request. A checkout needs something in the cart, so an uncounted addToCart precedes it; its
//! cost is in the processor time of the sample and nowhere else. Every visitor has a session of his own, new for each
//! sample, and a currency of his own. Both systems of a comparison get the same visitors doing the same things.

use std::sync::Arc;

use crate::load::{Plan, Step};

/// How often the deck of the mix is dealt before a connection repeats itself.
const DECKS: usize = 5;
const CURRENCIES: [&str; 4] = ["EUR", "USD", "JPY", "GBP"];
/// A test card of the Visa form that passes Luhn's check, and whom it belongs to.
const CHECKOUT_FORM: &str = "email=runner%40example.com&street_address=1+Relay+Lane&zip_code=94043&city=Mountain+View\
    &state=CA&country=United+States&credit_card_number=4432801561520454&credit_card_expiration_month=1\
    &credit_card_expiration_year=2039&credit_card_cvv=672";

/// One of the boutique's request chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// The start page.
    Index,
    /// Another currency.
    SetCurrency,
    /// One product's page.
    Product,
    /// The cart's page.
    ViewCart,
    /// Something more into the cart.
    AddToCart,
    /// The order.
    Checkout,
}

impl Chain {
    /// All six, with their weights in the mix.
    pub const WEIGHTS: [(Self, usize); 6] = [
        (Self::Index, 1),
        (Self::SetCurrency, 2),
        (Self::Product, 10),
        (Self::ViewCart, 3),
        (Self::AddToCart, 2),
        (Self::Checkout, 1),
    ];

    /// The case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::SetCurrency => "setCurrency",
            Self::Product => "product",
            Self::ViewCart => "viewCart",
            Self::AddToCart => "addToCart",
            Self::Checkout => "checkout",
        }
    }
}

/// What the visitors do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// All chains in their weights, shuffled.
    Mix,
    /// One chain over and over.
    Only(Chain),
}

impl Case {
    /// The case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mix => "mix",
            Self::Only(chain) => chain.name(),
        }
    }
}

/// A shop to visit.
#[derive(Debug, Clone)]
pub struct Shop {
    host: String,
    products: Vec<String>,
}

/// One visitor: his cookies and his dice.
struct Visitor<'a> {
    shop: &'a Shop,
    cookies: String,
    dice: Dice,
}

impl Shop {
    /// Reads the product ids out of the start page; `None` if there are none.
    #[must_use]
    pub fn from_index(host: &str, html: &str) -> Option<Self> {
        let mut products: Vec<String> = html.split("/product/").skip(1).map(leading_id).collect();
        products.retain(|id| !id.is_empty());
        products.sort();
        products.dedup();
        (!products.is_empty()).then(|| Self { host: host.into(), products })
    }

    /// A plan per connection; `sample` makes the sessions new.
    #[must_use]
    pub fn plans(&self, case: Case, connections: u32, sample: u64) -> Vec<Plan> {
        (0..connections).map(|connection| self.plan(case, connection, sample)).collect()
    }

    fn plan(&self, case: Case, connection: u32, sample: u64) -> Plan {
        let mut session = Dice(sample.wrapping_mul(1 << 20).wrapping_add(u64::from(connection)));
        let currency = CURRENCIES[connection as usize % CURRENCIES.len()];
        let cookies =
            format!("shop_session={:016x}{:016x}; shop_currency={currency}", session.roll(), session.roll());
        let mut visitor = Visitor { shop: self, cookies, dice: Dice(u64::from(connection)) };
        let setup = vec![visitor.step(Chain::AddToCart, false)];
        let chains = match case {
            Case::Only(chain) => vec![chain; self.products.len()],
            Case::Mix => visitor.dice.deck(),
        };
        let mut cycle = Vec::new();
        for chain in chains {
            if chain == Chain::Checkout {
                cycle.push(visitor.step(Chain::AddToCart, false));
            }
            cycle.push(visitor.step(chain, true));
        }
        Plan { setup, cycle }
    }
}

fn leading_id(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~')).collect()
}

impl Visitor<'_> {
    fn step(&mut self, chain: Chain, counted: bool) -> Arc<Step> {
        let product = &self.shop.products[self.dice.below(self.shop.products.len())];
        let request = match chain {
            Chain::Index => self.get("/"),
            Chain::Product => self.get(&format!("/product/{product}")),
            Chain::ViewCart => self.get("/cart"),
            Chain::SetCurrency => {
                let currency = CURRENCIES[self.dice.below(CURRENCIES.len())];
                self.post("/currency", &format!("currency_code={currency}"))
            }
            Chain::AddToCart => self.post("/cart", &format!("product_id={product}&quantity=1")),
            Chain::Checkout => self.post("/checkout", CHECKOUT_FORM),
        };
        let expect: &'static [u16] = match chain {
            Chain::Index | Chain::Product | Chain::ViewCart => &[200],
            Chain::SetCurrency | Chain::AddToCart | Chain::Checkout => &[200, 302, 303],
        };
        Arc::new(Step { request: request.into_bytes(), expect, counted })
    }

    fn get(&self, path: &str) -> String {
        let (host, cookies) = (&self.shop.host, &self.cookies);
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\ncookie: {cookies}\r\n\r\n")
    }

    fn post(&self, path: &str, form: &str) -> String {
        let (host, cookies) = (&self.shop.host, &self.cookies);
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\ncookie: {cookies}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        )
    }
}

/// SplitMix64: small, fast, the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).unwrap_or(0)
    }

    /// The chains of the mix in their weights, shuffled.
    fn deck(&mut self) -> Vec<Chain> {
        let one = Chain::WEIGHTS.iter().flat_map(|&(chain, weight)| std::iter::repeat_n(chain, weight));
        let mut deck: Vec<Chain> = std::iter::repeat_n(one, DECKS).flatten().collect();
        for at in (1..deck.len()).rev() {
            let other = self.below(at + 1);
            deck.swap(at, other);
        }
        deck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Shop {
        let html =
            r#"<a href="/product/AB12">x</a><a href='/product/cd-34'>y</a><a href="/product/AB12">z</a>"#;
        Shop::from_index("127.0.0.1:1", html).unwrap()
    }

    fn first_lines(plan: &Plan) -> Vec<(String, bool)> {
        let line = |step: &Arc<Step>| {
            let text = String::from_utf8(step.request.clone()).unwrap();
            (text.lines().next().unwrap().replace(" HTTP/1.1", ""), step.counted)
        };
        plan.cycle.iter().map(line).collect()
    }

    #[test]
    fn products_come_from_the_start_page() {
        assert_eq!(shop().products, ["AB12", "cd-34"]);
        assert!(Shop::from_index("h", "nothing here").is_none());
    }

    #[test]
    fn the_mix_keeps_its_weights_and_prepares_each_checkout() {
        let plan = &shop().plans(Case::Mix, 1, 7)[0];
        let lines = first_lines(plan);
        let count = |start: &str, counted| {
            lines.iter().filter(|(l, c)| l.starts_with(start) && *c == counted).count()
        };
        assert_eq!(count("GET /product/", true), 50);
        assert_eq!(count("POST /currency", true), 10);
        assert_eq!(count("GET /cart", true), 15);
        assert_eq!((count("POST /cart", true), count("POST /cart", false)), (10, 5));
        assert_eq!(count("POST /checkout", true), 5);
        assert_eq!(lines.iter().filter(|(_, counted)| *counted).count(), 95);
        for pair in lines.windows(2).filter(|pair| pair[1].0 == "POST /checkout") {
            assert_eq!(pair[0], ("POST /cart".into(), false));
        }
    }

    #[test]
    fn visitors_are_the_same_for_both_systems_and_new_for_each_sample() {
        let text = |sample, connection: usize| {
            String::from_utf8(
                shop().plans(Case::Only(Chain::ViewCart), 2, sample)[connection].cycle[0].request.clone(),
            )
        };
        assert_eq!(text(1, 0), text(1, 0));
        assert_ne!(text(1, 0), text(1, 1));
        assert_ne!(text(1, 0), text(2, 0));
        assert!(text(1, 0).unwrap().contains("cookie: shop_session="));
    }

    #[test]
    fn forms_state_their_length() {
        let plan = &shop().plans(Case::Only(Chain::Checkout), 1, 0)[0];
        let text = String::from_utf8(plan.cycle[1].request.clone()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(!body.contains(char::is_whitespace), "{body}");
    }
}

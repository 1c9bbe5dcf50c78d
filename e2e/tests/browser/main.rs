//! A visitor in a real browser: from the index to an order, in daylight, in the dark, and by keyboard alone.
//!
//! Pictures of what the visitor sees are left in `e2e/artifacts/`.

mod dashboard;
mod driver;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use baton_e2e::{Node, need_sandbox, source_root};
use driver::{Browser, ENTER, TAB};

/// How often a visitor presses Tab before giving up.
const TABS_MAX: usize = 60;
/// A Visa number that passes Luhn's check.
const CARD: &str = "4432801561520454";
/// How long buffers may take to come back after the last page.
const REST: Duration = Duration::from_secs(5);

/// A node with the shop, and a browser that shows nothing yet.
struct Visit {
    // Ends before the node does.
    browser: Browser,
    node: Node,
}

impl Visit {
    fn start() -> Option<Self> {
        let browser = Browser::start()?;
        let home = tempfile::Builder::new().prefix("baton-home-").tempdir().expect("a directory");
        let node = Node::restart(home, "boutique");
        let shop = source_root().join("examples/boutique");
        let deployed = node.cli(["deploy", shop.to_str().expect("a path in UTF-8"), "--json"]);
        assert_eq!(deployed.code, 0, "{deployed:?}");
        Some(Self { browser, node })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.node.gateway)
    }

    /// Leaves a picture, after a look at what every page must hold to.
    #[track_caller]
    fn picture(&self, name: &str) {
        let overflow =
            self.browser.script("let e = document.documentElement; return e.scrollWidth - e.clientWidth");
        assert_eq!(overflow, 0, "{name}: the page is wider than the screen");
        assert_eq!(self.browser.complaints(), Vec::<String>::new(), "{name}");
        self.browser.picture(&artifacts().join(name));
    }

    /// Presses Tab until the focus is on what the selector names, and sees that it shows.
    #[track_caller]
    fn tab_to(&self, css: &str) {
        self.tab_until(css, &format!("return document.activeElement.matches({css:?})"));
    }

    /// The same for what has this text.
    #[track_caller]
    fn tab_to_text(&self, text: &str) {
        self.tab_until(text, &format!("return document.activeElement.textContent === {text:?}"));
    }

    #[track_caller]
    fn tab_until(&self, what: &str, is_there: &str) {
        let pressed = (0..TABS_MAX).find(|_| {
            self.browser.press(TAB);
            self.browser.script(is_there) == true
        });
        assert!(pressed.is_some(), "no {what} within {TABS_MAX} presses of Tab");
        let outline = self.browser.script("return getComputedStyle(document.activeElement).outlineStyle");
        assert_ne!(outline, "none", "the focus on {what} does not show");
    }
}

fn artifacts() -> PathBuf {
    let directory = source_root().join("e2e/artifacts");
    fs::create_dir_all(&directory).expect("a place for pictures");
    directory
}

#[test]
fn a_visitor_walks_from_the_index_to_an_order() {
    need_sandbox!();
    let Some(visit) = Visit::start() else { return };
    let browser = &visit.browser;

    browser.open(&visit.url("/"));
    assert_eq!(browser.count("main .grid > li"), 9);
    assert_eq!(browser.text("h1"), "Things worth passing on");
    assert_eq!(browser.text("a.bag"), "Cart · 0");
    visit.picture("index-light.png");
    browser.prefer_dark(true);
    visit.picture("index-dark.png");
    browser.prefer_dark(false);
    browser.set_width(390);
    visit.picture("index-narrow.png");
    browser.set_width(1280);

    let before = browser.text("a[href='/product/lamp'] span");
    browser.script("document.querySelector('select[name=currency_code]').value = 'JPY'");
    browser.follow("form[action='/currency'] button", "/");
    let after = browser.text("a[href='/product/lamp'] span");
    assert!(after.starts_with("JPY ") && after != before, "{before} became {after}");

    browser.follow("a[href='/product/lamp']", "/product/lamp");
    assert!(browser.text("p.price").starts_with("JPY "));
    assert!(browser.count(".few > li") > 0, "nothing is recommended");
    visit.picture("product.png");
    browser.click("select[name=quantity] option:nth-child(3)");
    browser.follow("form[action='/cart'] button", "/cart");
    assert_eq!(browser.text("a.bag"), "Cart · 3");
    assert_eq!(browser.count(".row .pic"), 1);
    visit.picture("cart.png");
    browser.set_width(390);
    visit.picture("cart-narrow.png");
    browser.set_width(1280);

    order(&visit);
    visit.picture("order.png");

    browser.follow("a.bag", "/cart");
    assert_eq!(browser.text("a.bag"), "Cart · 0");
    assert!(browser.text("main").contains("nothing in it"), "{}", browser.text("main"));
    visit.picture("empty-cart.png");
    visit.node.wait_at_rest(REST);
}

/// Fills the form in and sends it.
fn order(visit: &Visit) {
    let browser = &visit.browser;
    browser.fill("input[name=email]", "ada@example.org");
    browser.fill("input[name=credit_card_number]", CARD);
    browser.follow("form[action='/checkout'] button", "/checkout");
    assert_eq!(browser.text("h1"), "Thank you!");
    assert!(browser.text("main").contains("ada@example.org"));
    let id = browser.text("#order");
    assert!(id.len() >= 8 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "order {id:?}");
    let mail = visit.node.cli(["invoke", "boutique/email"]);
    assert!(mail.stdout.contains(&id), "the confirmation does not name {id}: {}", mail.stdout);
}

#[test]
fn a_visitor_without_a_mouse_fills_the_cart() {
    need_sandbox!();
    let Some(visit) = Visit::start() else { return };
    let browser = &visit.browser;

    browser.open(&visit.url("/"));
    browser.press(TAB);
    let first = browser.script("return document.activeElement.className");
    assert_eq!(first, "skip", "the first stop skips what every page repeats");
    browser.press(ENTER);
    visit.tab_to("a[href='/product/watch']");
    browser.lead_to("/product/watch", || browser.press(ENTER));
    visit.tab_to("form[action='/cart'] button");
    visit.picture("keyboard.png");
    browser.lead_to("/cart", || browser.press(ENTER));
    assert_eq!(browser.text("a.bag"), "Cart · 1");
    visit.node.wait_at_rest(REST);
}

#[test]
fn a_card_that_cannot_be_is_refused_in_words() {
    need_sandbox!();
    let Some(visit) = Visit::start() else { return };
    let browser = &visit.browser;

    browser.open(&visit.url("/product/mug"));
    browser.follow("form[action='/cart'] button", "/cart");
    browser.fill("input[name=credit_card_number]", "4432801561520455");
    browser.follow("form[action='/checkout'] button", "/checkout");
    assert!(browser.text("main").contains("(422)"), "{}", browser.text("main"));
    // The browser itself notes the status; nothing else is wrong.
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|complaint| complaint.contains("422")), "{complaints:?}");
    browser.prefer_dark(true);
    visit.picture("refused-dark.png");
    browser.follow("main a", "/");
    assert_eq!(browser.text("a.bag"), "Cart · 1");
    visit.node.wait_at_rest(REST);
}

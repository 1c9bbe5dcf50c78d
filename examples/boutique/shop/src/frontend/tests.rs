//! The six chains make exactly the calls they are known for, and every page is sound HTML whatever is typed into it.

use core::pin::pin;
use core::task::{Context, Poll, Waker};

use super::*;
use crate::local::{Calls, Local};
use crate::text::Text;
use crate::wire::{Ad, Categories, Product};

const SESSION: &str = "shop_session=test-session-1; shop_currency=CAD";
const CARD: &str = "&credit_card_number=4432-8015-6152-0454&credit_card_expiration_month=1&credit_card_expiration_year=2039&credit_card_cvv=672";
const PERSON: &str =
    "email=ann%40example.com&street_address=1+Relay+Road&zip_code=M4B+1B3&city=Toronto&state=&country=Canada";

/// Runs a body whose calls are function calls: it is ready at once.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a local call never waits"),
    }
}

/// One visitor in one shop.
struct Browser {
    shop: Local,
    ids: Ids,
    accept: &'static str,
}

impl Browser {
    fn new() -> Self {
        Self { shop: Local::default(), ids: Ids::new(), accept: "text/html" }
    }

    fn ask(&self, method: &str, path: &str, query: Option<&str>, body: &str) -> (Answer, String) {
        let (cookie, accept) = (Some(SESSION), Some(self.accept));
        let content_type = (!body.is_empty()).then_some("application/x-www-form-urlencoded");
        let ask = Ask { method, path, query, cookie, accept, content_type, body: body.as_bytes() };
        let mut page = String::new();
        let answer = ready(respond(&self.shop, &self.ids, &ask, &mut page));
        if answer.content_type.is_some_and(|kind| kind.starts_with("text/html")) {
            assert_well_formed(&page);
        }
        (answer, page)
    }

    fn get(&self, path: &str) -> (Answer, String) {
        self.ask("GET", path, None, "")
    }

    fn post(&self, path: &str, body: &str) -> (Answer, String) {
        self.ask("POST", path, None, body)
    }

    fn fill(&self, products: &[&str]) {
        for id in products {
            assert_eq!(self.post("/cart", &format!("product_id={id}&quantity=2")).0.status, 303);
        }
        self.shop.take_calls();
    }

    fn expect_calls(&self, expect: &[(&'static str, usize)]) {
        assert_eq!(self.shop.take_calls(), expect.iter().copied().collect::<Calls>());
    }
}

/// Every opened element is closed in order, attributes are quoted, nothing is left of what the writer puts together.
fn assert_well_formed(page: &str) {
    const VOID: [&str; 8] = ["meta", "link", "input", "br", "!DOCTYPE", "img", "hr", "wbr"];
    let (mut open, mut rest) = (Vec::new(), page);
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        let end = tag.find('>').expect("every tag ends");
        let (inside, after) = (&tag[..end], &tag[end + 1..]);
        assert_eq!(inside.matches('"').count() % 2, 0, "quotes pair up in <{inside}>");
        assert!(!inside.contains('<'), "no tag inside <{inside}>");
        let name = inside.trim_start_matches('/').split([' ', '/']).next().unwrap_or("");
        assert!(!name.is_empty(), "<{inside}>");
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes what was opened last");
        } else if !inside.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        rest = match name {
            "style" => &after[after.find("</style>").unwrap_or(0)..],
            _ => after,
        };
    }
    assert!(open.is_empty(), "left open: {open:?}");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
}

#[test]
fn index_makes_13_calls() {
    let browser = Browser::new();
    let (answer, page) = browser.get("/");
    assert_eq!(answer.status, 200);
    browser.expect_calls(&[
        ("ad.list", 1),
        ("cart.get", 1),
        ("catalog.list", 1),
        ("currency.convert", 9),
        ("currency.list", 1),
    ]);
    assert_eq!(page.matches("<li>").count(), 9);
    assert!(page.contains("<option selected>CAD</option>"));
    assert!((6_000..14_000).contains(&page.len()), "{} bytes", page.len());
}

#[test]
fn set_currency_makes_no_call() {
    let browser = Browser::new();
    let (answer, page) = browser.post("/currency", "currency_code=JPY&back=%2Fcart");
    assert_eq!((answer.status, answer.location.as_deref(), page.as_str()), (303, Some("/cart"), ""));
    assert!(answer.cookies[0].starts_with("shop_currency=JPY;"));
    browser.expect_calls(&[]);
}

#[test]
fn product_makes_7_calls() {
    let browser = Browser::new();
    let (answer, page) = browser.get("/product/mug");
    assert_eq!(answer.status, 200);
    browser.expect_calls(&[
        ("ad.list", 1),
        ("cart.get", 1),
        ("catalog.get", 1),
        ("catalog.list", 1),
        ("currency.convert", 1),
        ("currency.list", 1),
        ("recommendation.list", 1),
    ]);
    assert_eq!(page.matches("<li>").count(), 5);
    assert!(page.contains("CAD\u{a0}25.43"), "18.50 USD at the day's rates");
}

#[test]
fn view_cart_makes_6_calls_and_2_for_each_line() {
    let browser = Browser::new();
    for lines in [&[][..], &["watch", "scarf", "notebook"][..]] {
        browser.fill(lines);
        let (answer, page) = browser.get("/cart");
        assert_eq!(answer.status, 200);
        let mut expect = vec![
            ("cart.get", 1),
            ("catalog.list", 1),
            ("currency.convert", 1 + lines.len()),
            ("currency.list", 1),
            ("recommendation.list", 1),
            ("shipping.quote", 1),
        ];
        if !lines.is_empty() {
            expect.push(("catalog.get", lines.len()));
        }
        browser.expect_calls(&expect);
        assert_eq!(page.contains("action=\"/checkout\""), !lines.is_empty());
    }
}

#[test]
fn add_to_cart_makes_2_calls() {
    let browser = Browser::new();
    let (answer, _) = browser.post("/cart", "product_id=fern&quantity=3");
    assert_eq!((answer.status, answer.location.as_deref()), (303, Some("/cart")));
    browser.expect_calls(&[("cart.add", 1), ("catalog.get", 1)]);
}

#[test]
fn checkout_makes_11_calls_and_2_for_each_line() {
    let browser = Browser::new();
    browser.fill(&["watch", "scarf"]);
    let (answer, page) = browser.post("/checkout", &format!("{PERSON}{CARD}"));
    assert_eq!(answer.status, 200, "{page}");
    browser.expect_calls(&[
        ("cart.empty", 1),
        ("cart.get", 1),
        ("catalog.get", 2),
        ("catalog.list", 1),
        ("checkout.order", 1),
        ("currency.convert", 3),
        ("currency.list", 1),
        ("email.send", 1),
        ("payment.pay", 1),
        ("recommendation.list", 1),
        ("shipping.quote", 1),
        ("shipping.ship", 1),
    ]);
    assert!(page.contains("ann@example.com") && page.contains("Field watch"));
    let mail = browser.shop.last_mail().unwrap();
    assert!(mail.contains("2 × Field watch") && mail.contains("Toronto"), "{mail}");
    assert!(browser.get("/cart").1.contains("nothing in it"), "the order emptied the cart");
}

#[test]
fn a_refused_card_leaves_the_cart_as_it_was() {
    let browser = Browser::new();
    browser.fill(&["notebook"]);
    let order = format!("{PERSON}{CARD}").replace("0454", "0455");
    assert_eq!(browser.post("/checkout", &order).0.status, 422);
    let calls = browser.shop.take_calls();
    assert!(!calls.contains_key("shipping.ship") && !calls.contains_key("cart.empty"));
    assert!(browser.get("/cart").1.contains("Dotted notebook"));
    let order = format!("{PERSON}{CARD}").replace("2039", "2025");
    assert_eq!(browser.post("/checkout", &order).0.status, 402);
}

#[test]
fn wrong_requests_get_the_status_that_fits() {
    let browser = Browser::new();
    let check = |method: &str, path: &str, body: &str, status: u16| {
        let (answer, page) = browser.ask(method, path, None, body);
        assert_eq!(answer.status, status, "{method} {path} {body}");
        assert!(page.contains("Back to the shop"));
    };
    check("GET", "/product/flying-carpet", "", 404);
    check("GET", "/product/a-name-that-is-longer-than-any-product-has", "", 404);
    check("GET", "/product/", "", 404);
    check("GET", "/product/a/b", "", 404);
    check("GET", "/nowhere", "", 404);
    check("POST", "/", "", 405);
    check("GET", "/checkout", "", 405);
    check("DELETE", "/product/notebook", "", 405);
    check("POST", "/cart", "product_id=flying-carpet&quantity=1", 404);
    check("POST", "/cart", "product_id=notebook&quantity=0", 422);
    check("POST", "/cart", "product_id=notebook&quantity=11", 422);
    check("POST", "/cart", "product_id=notebook&quantity=-1", 422);
    check("POST", "/cart", "product_id=notebook", 400);
    check("POST", "/cart", "", 400);
    check("POST", "/currency", "currency_code=XXX", 422);
    check("POST", "/currency", "currency_code=usd", 422);
    check("POST", "/currency", "", 400);
    check("POST", "/checkout", &format!("{PERSON}{CARD}"), 422);
    check("POST", "/checkout", PERSON, 400);
    browser.fill(&["notebook"]);
    check("POST", "/checkout", &format!("{PERSON}{CARD}").replace("ann%40", "ann"), 422);
    check("POST", "/checkout", &format!("{PERSON}{CARD}").replace("month=1", "month=13"), 422);
    check("POST", "/checkout", &format!("{PERSON}{CARD}").replace("Toronto", &"x".repeat(40)), 422);
}

#[test]
fn the_way_back_stays_in_the_shop() {
    let browser = Browser::new();
    let check = |back: &str, expect: &str| {
        let (answer, _) = browser.post("/currency", &format!("currency_code=EUR&back={back}"));
        assert_eq!(answer.location.as_deref(), Some(expect), "{back}");
    };
    check("/product/notebook", "/product/notebook");
    check("https://evil.example/", "/");
    check("//evil.example", "/");
    check("/%5Cevil.example", "/");
    check("/%0d%0aset-cookie:a=b", "/");
    check("", "/");
}

#[test]
fn what_visitors_type_is_shown_and_never_run() {
    let browser = Browser::new();
    let (_, page) = browser.ask("GET", "/search", Some("q=%3Cscript%3Ealert(1)%3C/script%3E"), "");
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
    let (_, page) = browser.get("/product/<script>");
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
    browser.fill(&["notebook"]);
    let order = format!("{PERSON}{CARD}").replace("ann%40", "%22%3E%3Csvg/onload=x%3E%40");
    let (answer, page) = browser.post("/checkout", &order);
    assert_eq!(answer.status, 200);
    assert!(!page.contains("<svg/onload"));
}

#[test]
fn what_other_functions_say_is_escaped_too() {
    let ask = Ask { cookie: Some(SESSION), ..Ask::default() };
    let visit = Visit::new(&ask, &Ids::new());
    let price = crate::Money::new(1, 0, crate::Code(*b"\"><"));
    let evil = Product::new(
        Text::literal("\"><script>"),
        Text::literal("</b><script>alert(1)</script>"),
        Text::literal("<script>"),
        price,
        Categories(0),
    );
    let currencies = [crate::Code(*b"<b>")];
    let frame = views::Frame::new(&visit, &currencies, &[], "/");
    let ads = [Ad { product: Text::literal("'\"><script>"), text: Text::literal("<script>") }];
    let mut page = String::new();
    let item = views::Priced { product: &evil, price, quantity: 1 };
    views::product(&mut page, &frame, &item, &[evil], &ads).unwrap();
    assert_well_formed(&page);
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
}

#[test]
fn every_page_has_a_json_form() {
    let browser = Browser { accept: "application/json", ..Browser::new() };
    browser.fill(&["notebook"]);
    let order = format!("{PERSON}{CARD}");
    let pages = [
        (browser.get("/"), "\"products\":["),
        (browser.get("/product/notebook"), "\"product\":{"),
        (browser.get("/cart"), "\"total\":{\"currency\":\"CAD\",\"units\":"),
        (browser.ask("GET", "/search", Some("q=lamp"), ""), "\"id\":\"lamp\""),
        (browser.post("/checkout", &order), "\"order\":\""),
        (browser.get("/nowhere"), "\"status\":404"),
    ];
    for ((answer, page), part) in pages {
        assert_eq!(answer.content_type, Some("application/json"));
        assert!(page.contains(part), "{part} in {page}");
        let count = |open: char| page.matches(open).count();
        assert!(count('{') == count('}') && count('[') == count(']'), "{page}");
    }
}

#[test]
fn a_new_visitor_gets_a_session_and_a_known_one_none() {
    let browser = Browser::new();
    let mut page = String::new();
    let ask = Ask { method: "GET", path: "/", ..Ask::default() };
    let answer = ready(respond(&browser.shop, &browser.ids, &ask, &mut page));
    assert!(answer.cookies[0].starts_with("shop_session="));
    assert!(browser.get("/").0.cookies.is_empty());
}

#[test]
fn the_largest_cart_fits_on_its_page() {
    let browser = Browser::new();
    let catalog = crate::catalog::Catalog::default();
    let every: Vec<&str> = catalog.all().iter().map(|product| product.id.as_str()).collect();
    browser.fill(&every);
    for path in ["/cart", "/", "/product/notebook"] {
        let page = browser.get(path).1;
        let items = page.matches("class=\"pic\"").count();
        assert!(page.len() < views::page_bytes(items), "{path}: {} bytes for {items} items", page.len());
    }
}

#[test]
fn a_full_sheet_fails_the_page_and_not_the_function() {
    /// Gives the first page too little room.
    struct Small(String, usize);
    impl fmt::Write for Small {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.1 = self.1.checked_sub(text.len()).ok_or(fmt::Error)?;
            self.0.write_str(text)
        }
    }
    impl Paper for Small {
        type Sheet = Self;
        fn sheet(&mut self, bytes: usize) -> Result<&mut Self, Failure> {
            self.0.clear();
            self.1 = if bytes > views::ERROR_BYTES { 100 } else { bytes };
            Ok(self)
        }
    }
    let (browser, mut paper) = (Browser::new(), Small(String::new(), 0));
    let ask = Ask { method: "GET", path: "/", ..Ask::default() };
    let answer = ready(respond(&browser.shop, &browser.ids, &ask, &mut paper));
    assert_eq!(answer.status, 500);
    assert_well_formed(&paper.0);
}

//! What the front end's bodies cost by themselves, every call a function call: `cargo run --release --example render`.
#![forbid(unsafe_code)]

use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::time::Instant;

use boutique_shop::frontend::{Ask, respond};
use boutique_shop::{Ids, Local};

/// Requests of each kind.
const ROUNDS: u32 = 50_000;

fn main() {
    let (shop, ids, mut page) = (Local::default(), Ids::new(), String::new());
    let cookie = Some("shop_session=0123456789abcdef; shop_currency=CAD");
    let get = |path| Ask { method: "GET", path, cookie, ..Ask::default() };
    let add = Ask {
        method: "POST",
        path: "/cart",
        body: b"product_id=notebook&quantity=1",
        cookie,
        ..Ask::default()
    };
    for ask in [get("/"), get("/product/notebook"), add, get("/cart"), get("/nowhere")] {
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let body = pin!(respond(&shop, &ids, &ask, &mut page));
            assert!(matches!(body.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_)));
        }
        let each = started.elapsed() / ROUNDS;
        println!(
            "{:4} {:18} {:>6} bytes {:>8.2} µs",
            ask.method,
            ask.path,
            page.len(),
            each.as_nanos() as f64 / 1e3
        );
    }
}

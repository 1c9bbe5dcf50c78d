//! Walks the six chains through ten processes, and makes hops, as `baton bench` does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_baton-bench-grpc");

/// A server that ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(role: &str, peers: &str) -> Self {
        let mut child = Command::new(BINARY)
            .args([role, "--listen", "127.0.0.1:0", "--peers", peers])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening ").unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn http(address: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let cookie = "cookie: shop_session=walker-1; shop_currency=CAD\r\n";
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let kind = "content-type: application/x-www-form-urlencoded\r\n";
    write!(stream, "{head} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{cookie}{kind}{length}\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_six_chains_work_over_grpc() {
    let leaves = ["catalog", "currency", "cart", "shipping", "payment", "email", "ad"];
    let mut servers: Vec<Server> = Vec::new();
    let mut peers = String::new();
    for role in leaves.into_iter().chain(["recommendation", "checkout", "frontend"]) {
        servers.push(Server::start(role, &peers));
        peers = format!("{peers}{role}={},", servers.last().unwrap().address);
    }
    let shop = servers.last().unwrap().address.clone();
    let check = |head: &str, body: &str, expect: &[&str]| {
        let answer = http(&shop, head, body);
        for part in expect {
            assert!(answer.contains(part), "{part} in the answer to {head}: {answer}");
        }
    };
    check("GET /", "", &["200 OK", "Stoneware mug", "CAD\u{a0}25.43"]);
    check("POST /currency", "currency_code=JPY", &["303 See Other", "shop_currency=JPY"]);
    check("GET /product/lamp", "", &["200 OK", "Anchor desk lamp"]);
    check("GET /product/flying-carpet", "", &["404 Not Found", "No product is called"]);
    check("POST /cart", "product_id=lamp&quantity=2", &["303 See Other", "location: /cart"]);
    check("POST /cart", "product_id=lamp&quantity=11", &["422"]);
    check("GET /cart", "", &["200 OK", "2 × CAD\u{a0}122.33"]);
    let order = "email=ann%40example.com&street_address=1+Relay+Road&zip_code=M4B&city=Toronto&country=Canada&credit_card_number=4432801561520454&credit_card_expiration_month=1&credit_card_expiration_year=2039&credit_card_cvv=672";
    check("POST /checkout", order, &["200 OK", "Thank you!", "ann@example.com", "Anchor desk lamp"]);
    check("POST /checkout", order, &["422", "The cart is empty"]);
    check("GET /search?q=kettle", "", &["200 OK", "Whistling kettle"]);
}

#[test]
fn hops_of_any_size_report_their_times() {
    let server = Server::start("hop-server", "");
    for payload in ["64", "8388608"] {
        let output = Command::new(BINARY)
            .args(["hop-client", "--peer", &server.address, "--payload", payload, "--iterations", "5"])
            .output()
            .unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        assert!(line.contains(&format!("\"payload_bytes\":{payload}")) && line.contains("p99_ns"), "{line}");
    }
}

#[test]
fn a_server_ends_when_its_stdin_closes() {
    let mut server = Server::start("hyper", "");
    assert!(http(&server.address, "GET /", "").ends_with("hello"));
    drop(server.child.stdin.take());
    for _ in 0..100 {
        if server.child.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the server outlived its stdin");
}

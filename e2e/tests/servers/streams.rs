//! Bodies and answers in parts, events, WebSockets, through an Express app on a Unix socket.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use baton_e2e::{Node, need_processes, need_sandbox};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

use super::places::Server;
use super::{REST, pattern};

const STREAM: &str = "stream = true\nscale = { min = 1, max = 1, concurrency = 8 }";

fn dial(node: &Node, path: &str) -> Result<WebSocket<TcpStream>, String> {
    let stream = TcpStream::connect(node.gateway).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!("ws://{}{path}", node.gateway).into_client_request().unwrap();
    tungstenite::client(request, stream).map(|(socket, _)| socket).map_err(|error| error.to_string())
}

#[test]
fn an_express_app_on_a_unix_socket_streams_both_ways() {
    need_processes!();
    need_sandbox!();
    let Some(server) = Server::express(STREAM) else { return };
    let node = server.start();
    let mut client = node.http();
    let hello = client.request("GET", "/", &[], b"").unwrap();
    assert_eq!((hello.status, hello.text().as_str()), (200, "hello from express\n"));
    let events = client.request("GET", "/events", &[], b"").unwrap();
    assert_eq!(events.text(), "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    assert!(events.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
    assert_eq!(client.request("GET", "/early", &[], b"").unwrap().text(), "late\n");
    // Larger than the pool: neither way is ever there as a whole.
    let body = pattern(80 << 20);
    let (gateway, sent) = (node.gateway, body.clone());
    let mut socket = TcpStream::connect(gateway).unwrap();
    let mut writer = socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let head = format!(
            "POST /echo HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            sent.len()
        );
        writer.write_all(head.as_bytes()).unwrap();
        writer.write_all(&sent).unwrap();
    });
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let echoed = read_chunked(&mut socket);
    writing.join().unwrap();
    assert!(echoed == body, "{} of {} bytes came back", echoed.len(), body.len());
    let chunked = node.http().chunked("POST", "/echo", &body[..1 << 20], 10_000).unwrap();
    assert!(chunked.body == body[..1 << 20]);
    node.wait_at_rest(REST);
}

/// The body of an answer in chunks, as they come.
fn read_chunked(socket: &mut TcpStream) -> Vec<u8> {
    use std::io::{BufRead as _, BufReader, Read as _};
    let mut reader = BufReader::new(socket);
    let (mut line, mut body) = (String::new(), Vec::new());
    while line != "\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the head ends");
    }
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let len = u64::from_str_radix(line.trim(), 16).unwrap();
        (&mut reader).take(len).read_to_end(&mut body).unwrap();
        line.clear();
        reader.read_line(&mut line).unwrap();
        if len == 0 {
            return body;
        }
    }
}

#[test]
fn messages_of_websockets_go_through() {
    need_processes!();
    need_sandbox!();
    let Some(server) = Server::express(STREAM) else { return };
    let node = server.start();
    let mut socket = dial(&node, "/socket").unwrap();
    let mut other = dial(&node, "/socket").unwrap();
    for text in ["hello", "", "again"] {
        socket.send(Message::text(text)).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(text.to_uppercase()));
    }
    let large = pattern(3 << 20);
    socket.send(Message::binary(large.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::binary(large));
    // The program closes.
    socket.send(Message::text("close")).unwrap();
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (3001, "as asked"));
    // The client closes.
    other.close(None).unwrap();
    assert!(matches!(other.read(), Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed)));
    // Where the program grants none, the client gets what it says.
    let refused = dial(&node, "/events").unwrap_err();
    assert!(refused.contains("400"), "{refused}");
    node.wait_at_rest(REST);
}

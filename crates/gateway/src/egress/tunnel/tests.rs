//! Doors as a program inside meets them, with sockets of the machine's own loopback in the place of a namespace's.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server that answers each connection with what came, in capitals, once it has read `len` bytes; its port.
async fn server(len: usize) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut came = vec![0; len];
            if stream.read_exact(&mut came).await.is_ok() {
                came.make_ascii_uppercase();
                let _ = stream.write_all(&came).await;
            }
        }
    });
    port
}

/// A replica that may connect to `network`, with one door; its address, and what is told.
async fn door(network: &[String], to: Leads) -> (SocketAddr, mpsc::Receiver<Told>) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let (told, heard) = mpsc::channel(8);
    let doors = vec![Door { listener, to }];
    tokio::spawn(serve(Doors { function: "f".to_owned(), network: network.to_vec(), doors, told }));
    (at, heard)
}

async fn say(to: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said).await;
    said
}

#[tokio::test]
async fn a_door_leads_where_it_leads_and_nowhere_else() {
    let port = server(3).await;
    let network = [format!("127.0.0.1:{port}")];
    let (at, mut heard) = door(&network, Leads::To("127.0.0.1".to_owned(), port)).await;
    assert_eq!(say(at, "abc").await, "ABC");
    assert_eq!(heard.recv().await, Some(Told::Opened));
    // One that was made for another manifest does not lead past this one.
    let (at, mut heard) = door(&network, Leads::To("127.0.0.1".to_owned(), 9)).await;
    assert_eq!(say(at, "abc").await, "");
    assert_eq!(heard.recv().await, Some(Told::Denied { host: "127.0.0.1:9".to_owned() }));
}

#[tokio::test]
async fn a_tunnel_is_opened_to_what_the_manifest_names() {
    let port = server(3).await;
    let (at, mut heard) = door(&[format!("127.0.0.1:{port}")], Leads::Proxy).await;
    let said = say(at, &format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nhost: x\r\n\r\nabc")).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("\r\n\r\nABC"), "{said}");
    assert_eq!(heard.recv().await, Some(Told::Opened));
    let close = "host: x\r\nconnection: close\r\n\r\n";
    let said = say(at, &format!("CONNECT 127.0.0.1:9 HTTP/1.1\r\n{close}")).await;
    assert!(said.starts_with("HTTP/1.1 403 ") && said.contains("127.0.0.1:9 is not in `network`"), "{said}");
    assert_eq!(heard.recv().await, Some(Told::Denied { host: "127.0.0.1:9".to_owned() }));
    for bad in [
        "CONNECT 127.0.0.1 HTTP/1.1",
        "GET / HTTP/1.1",
        "GET https://a/ HTTP/1.1",
        "GET http://u@a/ HTTP/1.1",
    ] {
        let said = say(at, &format!("{bad}\r\n{close}")).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{bad}: {said}");
    }
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn requests_for_whole_urls_are_passed_on_without_what_is_the_proxys() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        let count = stream.read(&mut asked).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nkeep-alive: 5\r\n\r\nhi").await.unwrap();
        String::from_utf8_lossy(&asked[..count]).into_owned()
    });
    let (at, _heard) = door(&[format!("127.0.0.1:{port}")], Leads::Proxy).await;
    let said = say(
        at,
        &format!(
            "GET http://127.0.0.1:{port}/a?b=c HTTP/1.1\r\nhost: elsewhere\r\nproxy-authorization: x\r\nconnection: close\r\n\r\n"
        ),
    )
    .await;
    assert!(
        said.starts_with("HTTP/1.1 200 ") && said.ends_with("hi") && !said.contains("keep-alive: 5"),
        "{said}"
    );
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: 127.0.0.1:{port}\r\n")) && !asked.contains("proxy-"), "{asked}");
}

//! A WebSocket client by hand: it can send what no proper client would.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::open::Open;

/// The key of RFC 6455's own example, and what it is answered with.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The client's end of a WebSocket.
pub(crate) struct Socket {
    stream: BufReader<TcpStream>,
}

/// The head of a request for a WebSocket.
pub(crate) fn head(target: &str, version: &str, key: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
         sec-websocket-version: {version}\r\nsec-websocket-key: {key}\r\n{more}\r\n"
    )
}

impl Socket {
    pub(crate) fn open(to: SocketAddr, target: &str) -> Socket {
        let answer = Open::ask(to, &head(target, "13", KEY, ""));
        assert_eq!((answer.status, answer.header("sec-websocket-accept")), (101, Some(ACCEPT)));
        Socket { stream: answer.into_stream() }
    }

    /// Sends a whole message in one frame.
    pub(crate) fn send(&mut self, kind: u8, payload: &[u8]) {
        self.frame(0x80 | kind, payload, true);
    }

    /// Sends a frame: its first byte, and whether it is masked, as clients have to.
    pub(crate) fn frame(&mut self, first: u8, payload: &[u8], masked: bool) {
        let mut bytes = head_of(first, payload.len() as u64, masked);
        let mask = [1, 2, 3, 4];
        if masked {
            bytes.extend(mask);
        }
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(
            |(byte, mask)| {
                if masked { byte ^ mask } else { *byte }
            },
        ));
        self.raw(&bytes);
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        // A server that has closed is none that reads.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// The next frame.
    pub(crate) fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut two = [0; 2];
        self.stream.read_exact(&mut two)?;
        let [first, second] = two;
        assert_eq!((first & 0x70, second & 0x80), (0, 0), "no extension, and no mask");
        let len = match second {
            126 => {
                let mut len = [0; 2];
                self.stream.read_exact(&mut len)?;
                u64::from(u16::from_be_bytes(len))
            }
            127 => {
                let mut len = [0; 8];
                self.stream.read_exact(&mut len)?;
                u64::from_be_bytes(len)
            }
            len => u64::from(len),
        };
        let mut payload = vec![0; usize::try_from(len).expect("a length that fits")];
        self.stream.read_exact(&mut payload)?;
        Ok((first, payload))
    }

    /// The next frame must be a whole message of `kind`.
    pub(crate) fn expect(&mut self, kind: u8, payload: &[u8]) {
        let (first, got) = self.receive().expect("a frame");
        assert_eq!(first, 0x80 | kind, "{}", String::from_utf8_lossy(&got));
        assert!(got == payload, "{} bytes, not {}", got.len(), payload.len());
    }

    /// The next frame must be a close; its code.
    pub(crate) fn expect_close(&mut self) -> u16 {
        let (first, got) = self.receive().expect("a close");
        assert_eq!(first, 0x80 | CLOSE);
        got.first_chunk::<2>().map_or(0, |code| u16::from_be_bytes(*code))
    }

    /// Nothing comes any more.
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let ended = self.stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
        assert!(!matches!(ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "it stays open");
    }
}

/// A frame's head without its mask.
pub(crate) fn head_of(first: u8, len: u64, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match len {
        0..126 => bytes.push(mask | u8::try_from(len).expect("small")),
        126..65_536 => {
            bytes.push(mask | 126);
            bytes.extend(u16::try_from(len).expect("small").to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes
}

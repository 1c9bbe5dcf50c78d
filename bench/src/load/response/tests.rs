//! Responses in pieces of any size, and what is refused.

use super::*;

fn read_all(text: &[u8], piece: usize) -> Result<(Vec<Response>, Vec<u8>), ReadError> {
    let mut reader = ResponseReader::default();
    let (mut responses, mut body) = (Vec::new(), Vec::new());
    for mut bytes in text.chunks(piece) {
        while !bytes.is_empty() {
            match reader.feed(bytes, &mut |part| body.extend_from_slice(part))? {
                Progress::More => break,
                Progress::Done { used, response } => {
                    responses.push(response);
                    bytes = &bytes[used..];
                }
            }
        }
    }
    Ok((responses, body))
}

#[test]
fn responses_are_read_in_pieces_of_any_size() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
        HTTP/1.1 303 See Other\r\nlocation: /\r\ncontent-length: 0\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
        3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n";
    for piece in 1..=text.len() {
        let (responses, body) = read_all(text, piece).unwrap();
        let statuses: Vec<u16> = responses.iter().map(|r| r.status).collect();
        assert_eq!(statuses, [200, 303, 200, 204], "piece {piece}");
        let lengths: Vec<u64> = responses.iter().map(|r| r.body_bytes).collect();
        assert_eq!(lengths, [5, 0, 13, 0]);
        assert!(responses[2].close && !responses[0].close);
        assert_eq!(body, b"helloabc0123456789");
    }
}

#[test]
fn malformed_responses_are_refused() {
    let check = |text: &[u8], expect| assert_eq!(read_all(text, text.len()).unwrap_err(), expect);
    check(b"HTP/1.1 200 OK\r\n\r\n", ReadError::StatusLine);
    check(b"HTTP/1.1 2000\r\n\r\n", ReadError::StatusLine);
    check(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ReadError::Header);
    check(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", ReadError::Header);
    check(b"HTTP/1.1 200 OK\r\n\r\n", ReadError::NoLength);
    check(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", ReadError::Chunk);
    check(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n", ReadError::Chunk);
    check(&[b'a'; HEAD_BYTES_MAX + 1], ReadError::HeadTooLong);
}

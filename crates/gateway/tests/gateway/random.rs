//! Whatever bytes come, the gateway neither panics nor hangs, and holds nothing afterwards.

use baton_gateway::Limits;
use proptest::prelude::*;

use crate::support::{hasty, with};

/// Pieces of which requests, and nearly requests, are made.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: &[&str] = &[
        "GET /hello HTTP/1.1\r\n",
        "POST /echo HTTP/1.1\r\n",
        "HEAD /none HTTP/1.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\0\0\x04\0\0\0\0\0",
        "Host: x\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "hello",
    ];
    prop_oneof![
        4 => prop::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_harm_the_gateway(inputs in prop::collection::vec(prop::collection::vec(piece(), 0..12), 1..24)) {
        with(Limits { body_bytes: 4096, ..hasty(100, 100, 100, 100) }, async |server| {
            let mut clients = Vec::new();
            for input in &inputs {
                let mut client = server.connect().await;
                client.send(input.concat()).await;
                clients.push(client);
            }
            for (number, mut client) in clients.into_iter().enumerate() {
                match number % 3 {
                    0 => client.reset(),
                    1 => {
                        client.shut().await;
                        client.rest().await;
                    }
                    _ => {
                        client.rest().await;
                    }
                }
            }
            server.is_well().await;
        });
    }
}

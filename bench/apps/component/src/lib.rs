//! A hello by `wasi:http` 0.2, as any server of components runs it: what `baton bench components` measures.

#![cfg(target_arch = "wasm32")]

use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

impl wasi::exports::http::incoming_handler::Guest for Hello {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let fields = [("content-type".to_owned(), b"text/plain".to_vec())];
        let response = OutgoingResponse::new(Fields::from_list(&fields).expect("the header is one"));
        let body = response.body().expect("it is taken once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("it is taken once");
        stream.blocking_write_and_flush(b"hello, world\n").expect("the response is read");
        drop(stream);
        OutgoingBody::finish(body, None).expect("nothing is missing");
    }
}

wasi::http::proxy::export!(Hello);

//! Frames there and back, and frames that lie.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::bulk::{End, Pull, ToHolder};
use super::call::{ToCallee, ToCaller};
use super::hello::{Hello, Lane, PROTOCOL, Rejection};
use super::*;
use crate::limits::{HEAD_MAX, INLINE_MAX};
use crate::payload::{Answer, AnswerKind, Arrived, Incoming};
use crate::reference::{Reference, Token};
use crate::vault::Refusal;

fn split(frame: &[u8], road: Road) -> (Header, Bytes) {
    let header = Header::parse(frame.first_chunk().unwrap(), road).unwrap();
    let body = Bytes::copy_from_slice(&frame[HEADER..]);
    assert_eq!(header.len as usize, body.len());
    (header, body)
}

fn body() -> impl Strategy<Value = Arrived> {
    let inline =
        prop::collection::vec(any::<u8>(), 0..40_000).prop_map(|bytes| Arrived::Inline(Bytes::from(bytes)));
    let referenced = (any::<[u8; 32]>(), any::<u64>())
        .prop_map(|(token, len)| Arrived::Referenced(Reference { token: Token::from_bytes(token), len }));
    prop_oneof![Just(Arrived::Empty), inline, referenced]
}

proptest! {
    #[test]
    fn calls_come_back_as_they_were(
        id in any::<u64>(), version in any::<u64>(), operation in any::<u16>(), record in any::<bool>(),
        micros in 0..86_400_000_000u64, head in prop::collection::vec(any::<u8>(), 0..300), body in body(),
    ) {
        let (app, function) = ("shop".to_owned(), "c\u{e4}rt".to_owned());
        let timeout = Duration::from_micros(micros);
        let call = Incoming { app, function, version, invocation: !version, operation, record, timeout, head, body };
        let mut frame = Vec::new();
        call::put_call(&mut frame, id, &call);
        let (header, body) = split(&frame, Road::Calls);
        prop_assert_eq!(header.id, id);
        prop_assert_eq!(call::to_callee(&header, &body), Ok(ToCallee::Call(call)));
    }

    #[test]
    fn answers_come_back_as_they_were(
        status in any::<u16>(), load in any::<u32>(), kind in 0usize..5,
        head in prop::collection::vec(any::<u8>(), 0..300), body in body(),
    ) {
        use AnswerKind::*;
        let kind = [Reply, FunctionError, Refused, Died, Cancelled][kind];
        let answer = Answer { status, kind, load, head, body };
        let mut frame = Vec::new();
        call::put_answer(&mut frame, 3, &answer);
        let (header, body) = split(&frame, Road::Answers);
        prop_assert_eq!(call::to_caller(&header, &body), Ok(ToCaller::Reply(answer)));
    }

    #[test]
    fn whatever_comes_is_a_frame_or_an_error(header in any::<[u8; HEADER]>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(bytes);
        let mut headers = vec![header];
        // Headers that are almost good reach the bodies.
        for kind in 0..24 {
            let mut good = [0; HEADER];
            good[0] = header[0] % 201;
            good[4] = kind;
            headers.push(good);
        }
        for header in headers {
            for road in [Road::Greeting, Road::Calls, Road::Answers, Road::Pulls, Road::Pieces] {
                let Ok(header) = Header::parse(&header, road) else { continue };
                prop_assert!(header.len <= header.kind.body_max());
                let _ = (call::to_callee(&header, &body), call::to_caller(&header, &body));
                let _ = (bulk::to_holder(&header, &body), bulk::end(&body));
                let _ = (Hello::decode(&body), Rejection::decode(&body));
            }
        }
    }
}

#[test]
fn pulls_and_their_ends_come_back_as_they_were() {
    let token = Token::from_bytes([3; 32]);
    let pull = Pull { token, retrieval: 1, offset: 2, len: 3, window: 4 };
    let mut frames = [const { Vec::new() }; 4];
    bulk::put_pull(&mut frames[0], 7, &pull);
    bulk::put_credit(&mut frames[1], 7, 99);
    bulk::put_abort(&mut frames[2], 7);
    bulk::put_ack(&mut frames[3], 7, &token);
    let expected = [ToHolder::Pull(pull), ToHolder::Credit(99), ToHolder::Abort, ToHolder::Ack(token)];
    for (frame, expected) in frames.iter().zip(expected) {
        let (header, body) = split(frame, Road::Pulls);
        assert_eq!((header.id, bulk::to_holder(&header, &body)), (7, Ok(expected)));
    }
    for end in Refusal::ALL.map(End::Refused).into_iter().chain([End::Aborted]) {
        let mut frame = Vec::new();
        bulk::put_end(&mut frame, 7, end);
        assert_eq!(bulk::end(&split(&frame, Road::Pieces).1), Ok(end));
    }
}

#[test]
fn hellos_come_back_as_they_were() {
    for lane in [Lane::Call, Lane::Bulk] {
        let (cluster, node) = ("c".repeat(crate::limits::NAME_MAX), "n".to_owned());
        let hello = Hello { protocol: PROTOCOL, lane, cluster, node, incarnation: u64::MAX, machine: 7 };
        let mut frame = Vec::new();
        hello.encode(&mut frame);
        assert_eq!(Hello::decode(&split(&frame, Road::Greeting).1), Ok(hello));
    }
}

#[test]
fn headers_that_lie_are_refused_before_anything_is_allocated() {
    let parse = |len: u32, kind: u8, reserved: u8, road| {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        (bytes[4], bytes[6]) = (kind, reserved);
        Header::parse(&bytes, road).unwrap_err()
    };
    let max = Kind::Call.body_max();
    assert_eq!(parse(max + 1, 3, 0, Road::Calls), WireError::Length { kind: Kind::Call, len: max + 1, max });
    assert_eq!(parse(1, 6, 0, Road::Calls), WireError::Length { kind: Kind::Ping, len: 1, max: 0 });
    assert_eq!(parse(0, 99, 0, Road::Calls), WireError::Kind { kind: 99, road: Road::Calls });
    assert_eq!(parse(0, 4, 0, Road::Calls), WireError::Kind { kind: 4, road: Road::Calls });
    assert_eq!(parse(0, 6, 1, Road::Calls), WireError::Reserved);
}

#[test]
fn bodies_that_lie_are_refused() {
    let call = Incoming { app: "a".to_owned(), function: "f".to_owned(), ..Incoming::default() };
    let mut frame = Vec::new();
    call::put_call(&mut frame, 1, &call);
    let (header, body) = split(&frame, Road::Calls);
    for len in 0..body.len() {
        assert!(call::to_callee(&header, &body.slice(..len)).is_err(), "cut at {len}");
    }
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = body.to_vec();
        change(&mut bytes);
        call::to_callee(&header, &Bytes::from(bytes)).unwrap_err()
    };
    assert_eq!(with(&|bytes| bytes.push(0)), WireError::Trailing);
    assert_eq!(with(&|bytes| bytes[0] = 2), WireError::Field("record"));
    assert_eq!(with(&|bytes| bytes[26] = 0xFF), WireError::Field("timeout"));
    assert_eq!(with(&|bytes| bytes[27] = 200), WireError::Field("app"));
    assert_eq!(with(&|bytes| bytes[28] = b'\n'), WireError::Field("app"));
    assert_eq!(with(&|bytes| bytes[28] = 0xFF), WireError::Field("app"));
    // The head claims more than there may be, or is.
    assert_eq!(with(&|bytes| bytes[33] = 0xFF), WireError::Field("head"));
    assert_eq!(with(&|bytes| bytes[31] = 1), WireError::Short);
    let long = Incoming { body: Arrived::Inline(Bytes::from(vec![0; INLINE_MAX + 1])), ..call.clone() };
    let mut frame = Vec::new();
    call::put_call(&mut frame, 1, &long);
    let (header, body) = split(&frame, Road::Calls);
    assert_eq!(call::to_callee(&header, &body), Err(WireError::Field("body")));
    let long = Incoming { head: vec![0; HEAD_MAX + 1], ..call };
    let mut frame = Vec::new();
    call::put_call(&mut frame, 1, &long);
    let (header, body) = split(&frame, Road::Calls);
    assert_eq!(call::to_callee(&header, &body), Err(WireError::Field("head")));
}

//! Whatever another node sends is frames or an error, and whatever token it shows opens nothing but what it was made for.

use std::time::Duration;

use baton_fuzz::{Source, fuzz};
use baton_transfer::bulk::Fetcher;
use baton_transfer::call::{Callee, Caller};
use baton_transfer::wire::call::{to_callee, to_caller};
use baton_transfer::wire::hello::{Hello, Rejection};
use baton_transfer::wire::{HEADER, Header, Road, bulk};
use baton_transfer::{Incoming, Limits, Reference, Token};
use bytes::Bytes;

const ROADS: [Road; 5] = [Road::Greeting, Road::Calls, Road::Answers, Road::Pulls, Road::Pieces];

/// A header that is often almost good, and a body.
fn frame(source: &mut Source<'_>, road: Road) -> Option<(Header, Bytes)> {
    let mut header = [0; HEADER];
    let len = source.byte();
    header[0] = len;
    header[4] = source.byte() % 24;
    header[8] = source.byte() % 8;
    if source.byte() == 0 {
        header.iter_mut().for_each(|byte| *byte ^= source.byte());
    }
    let header = Header::parse(&header, road).ok()?;
    assert!(header.len <= header.kind.body_max());
    let mut body = source.bytes(usize::from(len)).to_vec();
    body.resize(header.len.min(4096) as usize, 0);
    Some((header, Bytes::from(body)))
}

#[test]
fn frames() {
    fuzz(baton_fuzz::INPUT_BYTES_MAX, |input| {
        let mut source = Source::new(input);
        let road = ROADS[usize::from(source.byte()) % ROADS.len()];
        if let Some((header, body)) = frame(&mut source, road) {
            let _ = (to_callee(&header, &body), to_caller(&header, &body));
            let _ = (bulk::to_holder(&header, &body), bulk::end(&body));
        }
        let _ = (Hello::decode(input), Rejection::decode(input));
    });
}

/// Both ends of a call lane and a receiver, fed with frames: no panic, and never more than their bounds.
#[test]
fn lanes() {
    let limits = Limits { calls: 4, window: 64, stripe_from: 100, ..Limits::default() };
    fuzz(baton_fuzz::INPUT_BYTES_MAX, |input| {
        let mut source = Source::new(input);
        let mut now = Duration::ZERO;
        let (mut callee, mut caller) = (Callee::new(now, &limits), Caller::new(now, &limits));
        let mut fetcher = Fetcher::new(&limits, false);
        fetcher.lane_up(now, 1);
        let mut out = Vec::new();
        while !source.is_empty() {
            now += Duration::from_millis(u64::from(source.byte()));
            let road = ROADS[1 + usize::from(source.byte()) % 4];
            let Some((header, body)) = frame(&mut source, road) else { continue };
            if let Ok(frame) = to_callee(&header, &body)
                && callee.receive(now, header.id, frame).is_err()
            {
                return;
            }
            if let Ok(frame) = to_caller(&header, &body)
                && caller.receive(now, header.id, frame).is_err()
            {
                return;
            }
            if road == Road::Pieces {
                let Ok(sink) = fetcher.receive(now, 1, &header) else { return };
                if let baton_transfer::bulk::Sink::Room { at, len, .. } = sink {
                    assert!(at + len <= 200, "a piece outside of its room");
                    fetcher.arrived(now, 1, header.id, len);
                } else if fetcher.ended(header.id, &body).is_err() {
                    return;
                }
            }
            match source.byte() % 4 {
                0 => {
                    let _ = caller.begin(
                        now,
                        Incoming { app: "a".into(), function: "f".into(), ..Incoming::default() },
                    );
                }
                1 => {
                    let reference = Reference { token: Token::from_bytes([1; 32]), len: 200 };
                    fetcher.begin(now, reference, 1, Duration::MAX);
                }
                2 => fetcher.abort(u64::from(source.byte() % 8)),
                _ => {}
            }
            out.clear();
            caller.transmit(now, &mut out, 1024);
            callee.transmit(&mut out, 1024);
            fetcher.transmit(1, &mut out);
            let _ = (caller.tick(now), callee.tick(now), fetcher.tick(now));
            while caller.event().is_some() || callee.event().is_some() || fetcher.done().is_some() {}
            assert!(callee.in_flight() <= limits.calls && caller.in_flight() <= limits.calls);
        }
    });
}

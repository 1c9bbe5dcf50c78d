//! One turn of a node: reads what came, does what is due, writes what fits.

use super::*;
use crate::bulk::{Sending, Sink, Verdict};
use crate::call::{CalleeEvent, CallerEvent};
use crate::sim::memory::assert_payload;
use crate::sim::net::{Conn, Way};
use crate::wire::bulk::to_holder;
use crate::wire::call::{to_callee, to_caller};

/// Bytes that a node reads of one connection in a turn, and a slow one.
const READ: usize = 4096;
const READ_SLOW: usize = 37;

/// The world's time, and its connections.
pub(in crate::sim) struct Net<'a> {
    pub(in crate::sim) now: Duration,
    pub(in crate::sim) conns: &'a mut BTreeMap<usize, Conn>,
    pub(in crate::sim) chance: &'a mut Chance,
}

impl Net<'_> {
    fn arrives(&mut self) -> Duration {
        self.now + Duration::from_micros(50 + self.chance.below(20_000))
    }

    fn read(&mut self, conn: usize, way: usize, slow: bool) -> Vec<u8> {
        let Some(conn) = self.conns.get_mut(&conn) else { return Vec::new() };
        conn.ways[way].deliver(self.now);
        conn.ways[way].read(if slow { READ_SLOW } else { READ })
    }

    fn way(&mut self, conn: usize, way: usize) -> &mut Way {
        &mut self.conns.get_mut(&conn).expect("connections end before they are forgotten").ways[way]
    }

    fn kill(&mut self, conn: usize) {
        self.conns.get_mut(&conn).into_iter().for_each(Conn::kill);
    }

    /// Writes as many of `bytes` as there is room for.
    fn write(&mut self, conn: usize, way: usize, bytes: &mut Vec<u8>) {
        let len = self.way(conn, way).room().min(bytes.len());
        if len > 0 {
            let at = self.arrives();
            let rest = bytes.split_off(len);
            let part = Part::Bytes(std::mem::replace(bytes, rest));
            self.way(conn, way).write(part, at);
        }
    }
}

impl Node {
    pub(in crate::sim) fn turn(&mut self, net: &mut Net<'_>) {
        let now = net.now + self.jump;
        self.time = now;
        self.vault.expire(now);
        self.call_out(now, net);
        self.call_in(now, net);
        self.work(now);
        self.serve(now, net);
        self.receive(now, net);
        self.check_bounds();
    }

    fn check_bounds(&self) {
        let limits = limits();
        assert!(
            self.outs.values().all(|out| out.caller.in_flight() <= limits.calls),
            "more calls out than allowed"
        );
        assert!(
            self.ins.values().all(|called| called.callee.in_flight() <= limits.calls),
            "more calls in than allowed"
        );
        assert!(
            self.serves.values().all(|serve| serve.sender.pulls() <= limits.pulls_per_lane),
            "too many pulls"
        );
        assert!(self.vault.len() <= limits.holds, "too many holds");
    }

    fn call_out(&mut self, now: Now, net: &mut Net<'_>) {
        let peers: Vec<usize> = self.outs.keys().copied().collect();
        for peer in peers {
            let Some(out) = self.outs.get_mut(&peer) else { continue };
            let conn = out.conn;
            let came = net.read(conn, 1, self.slow);
            if !came.is_empty() {
                out.caller.heard(now);
                out.reading.0.extend(came);
            }
            while let Some((header, body)) = out.reading.frame(Road::Answers) {
                let frame = to_caller(&header, &body).expect("an honest peer");
                out.caller.receive(now, header.id, frame).expect("an honest callee");
            }
            let alive = out.caller.tick(now);
            let mut events = Vec::new();
            while let Some(event) = out.caller.event() {
                events.push(event);
            }
            if out.out.len() < 512 {
                out.caller.transmit(now, &mut out.out, 512);
            }
            net.write(conn, 0, &mut out.out);
            if !alive {
                net.kill(conn);
            }
            for event in events {
                match event {
                    CallerEvent::Answered(id, answer) => self.end(peer, id, Ok(answer)),
                    CallerEvent::Late(id) => self.end(peer, id, Err(CallError::Late)),
                    CallerEvent::Unwanted(answer) => {
                        if let Arrived::Referenced(reference) = answer.body {
                            self.fetch(peer).fetcher.release(now, &reference, 1);
                        }
                    }
                }
            }
        }
    }

    fn call_in(&mut self, now: Now, net: &mut Net<'_>) {
        let conns: Vec<usize> = self.ins.keys().copied().collect();
        for conn in conns {
            let Some(called) = self.ins.get_mut(&conn) else { continue };
            if called.callee.may_read() {
                let came = net.read(conn, 0, self.slow);
                if !came.is_empty() {
                    called.callee.heard(now);
                    called.reading.0.extend(came);
                }
            }
            while let Some((header, body)) = called.reading.frame(Road::Calls) {
                let frame = to_callee(&header, &body).expect("an honest peer");
                called.callee.receive(now, header.id, frame).expect("an honest caller");
            }
            let alive = called.callee.tick(now);
            let peer = called.peer;
            let mut events = Vec::new();
            while let Some(event) = called.callee.event() {
                events.push(event);
            }
            if called.out.len() < 512 {
                called.callee.transmit(&mut called.out, 512);
            }
            net.write(conn, 1, &mut called.out);
            if !alive {
                net.kill(conn);
            }
            for event in events {
                match event {
                    CalleeEvent::Begin(id, call) => self.begin(now, (conn, id, peer), call, net.chance),
                    CalleeEvent::Cancel(id) => {
                        self.tasks.retain(|task| (task.conn, task.id) != (conn, id));
                        self.abort_bodies(|what| matches!(what, For::Body { conn: of, id: its, .. } if (of, its) == (conn, id)));
                    }
                }
            }
        }
    }

    fn begin(
        &mut self,
        now: Now,
        (conn, id, peer): (usize, u64, usize),
        call: Incoming,
        chance: &mut Chance,
    ) {
        let number = call.invocation;
        self.told.push(Told::Begun(number));
        assert_eq!(call.head, number.to_le_bytes(), "a call's head");
        let until = now + Duration::from_millis(chance.below(150));
        let mut pulled = true;
        match &call.body {
            Arrived::Empty => {}
            Arrived::Inline(bytes) => assert_payload(bytes, number, "a call's bytes"),
            Arrived::Referenced(reference) => {
                pulled = false;
                let deadline = now + call.timeout;
                if !self.pull(peer, *reference, For::Body { conn, id, number }, deadline) {
                    pulled = true;
                }
            }
        }
        self.tasks.push(Task { conn, id, number, until, pulled });
    }

    /// Handlers that are done answer.
    fn work(&mut self, now: Now) {
        let (done, going): (Vec<Task>, Vec<Task>) =
            std::mem::take(&mut self.tasks).into_iter().partition(|task| task.pulled && task.until <= now);
        self.tasks = going;
        for Task { conn, id, number, .. } in done {
            let Some(peer) = self.ins.get(&conn).map(|called| called.peer) else { continue };
            let body = match number % 3 {
                0 => Arrived::Empty,
                1 => Arrived::Inline(Bytes::from(payload(!number, number % 700))),
                _ => {
                    let held = self.memory.held(!number, number * 37 % 4000 + 1);
                    let terms = Terms { expires: limits().answer_held, retrievals: 1 };
                    let held =
                        held.and_then(|held| self.vault.hold(now, &peer.to_string(), held, terms).ok());
                    held.map_or(Arrived::Empty, Arrived::Referenced)
                }
            };
            let answer = Answer { status: 200, kind: AnswerKind::Reply, load: 0, head: Vec::new(), body };
            let answered =
                self.ins.get_mut(&conn).is_some_and(|called| called.callee.answer(id, answer.clone()));
            if !answered {
                self.withdraw(&answer);
            }
        }
    }

    fn serve(&mut self, now: Now, net: &mut Net<'_>) {
        let conns: Vec<usize> = self.serves.keys().copied().collect();
        for conn in conns {
            let Some(serve) = self.serves.get_mut(&conn) else { continue };
            if serve.sender.may_read() {
                serve.reading.0.extend(net.read(conn, 0, self.slow));
            }
            while let Some((header, body)) = serve.reading.frame(Road::Pulls) {
                let frame = to_holder(&header, &body).expect("an honest peer");
                serve
                    .sender
                    .receive(now, header.id, frame, &mut self.vault, &self.counters)
                    .expect("an honest receiver");
            }
            loop {
                let way = net.way(conn, 1);
                if serve.parts.is_empty() && way.room() > 0 {
                    match serve.sender.next(now) {
                        None => break,
                        Some(Sending::Frames(frames)) => serve.parts.push_back(Part::Bytes(frames)),
                        Some(Sending::Chunk { header, held, offset, len }) => {
                            serve.parts.push_back(Part::Bytes(header.to_vec()));
                            serve.parts.push_back(Part::Pages(held.part(offset, len)));
                            if self.bug == Some(Bug::DeleteOnSend) && offset + len == held.len() {
                                self.vault.revoke_where(|other, _| other.buffer() == held.buffer());
                            }
                        }
                    }
                }
                let Some(part) = serve.parts.pop_front() else { break };
                // A part may be cut anywhere: connections break in the middle of frames.
                let room = net.way(conn, 1).room();
                let (now_part, rest) = cut(part, room);
                let at = net.arrives();
                if let Some(part) = now_part {
                    net.way(conn, 1).write(part, at);
                }
                if let Some(rest) = rest {
                    serve.parts.push_front(rest);
                    break;
                }
            }
            let way = net.way(conn, 1);
            let acknowledged =
                if self.bug == Some(Bug::ReleaseBeforeReset) { u64::MAX } else { way.acknowledged };
            let written = if self.bug == Some(Bug::ReleaseBeforeReset) { u64::MAX } else { way.written };
            if serve.sender.check(now, written, acknowledged) == Verdict::Reset {
                self.resets += 1;
                net.kill(conn);
            }
        }
    }

    fn receive(&mut self, now: Now, net: &mut Net<'_>) {
        let peers: Vec<usize> = self.fetches.keys().copied().collect();
        for peer in peers {
            let Some(fetch) = self.fetches.get_mut(&peer) else { continue };
            for lane in fetch.fetcher.tick(now) {
                if let Some(receive) = fetch.lanes.get(&lane) {
                    net.kill(receive.conn);
                }
            }
            for (lane, receive) in &mut fetch.lanes {
                receive.reading.extend(net.read(receive.conn, 1, self.slow));
                receive.take_in(now, *lane, &mut fetch.fetcher, &fetch.pulling);
                let mut out = Vec::new();
                // Small frames: always fit.
                fetch.fetcher.transmit(*lane, &mut out);
                let at = net.arrives();
                if !out.is_empty() {
                    net.way(receive.conn, 0).write(Part::Bytes(out), at);
                }
            }
            while let Some((pull, result)) =
                self.fetches.get_mut(&peer).and_then(|fetch| fetch.fetcher.done())
            {
                self.pulled(peer, pull, result);
            }
        }
    }

    fn pulled(&mut self, peer: usize, pull: PullId, result: Result<(), PullError>) {
        let Some(Pulling { room, at, len, what }) = self.fetch(peer).pulling.remove(&pull) else { return };
        let of = match what {
            For::Body { number, .. } => number,
            For::Answer { number } => !number,
        };
        if result.is_ok() {
            assert_payload(&self.memory.read(at, len), of, &format!("pulled bytes of {what:?}"));
        }
        drop(room);
        self.told.push(Told::Pulled(what, result));
        if let For::Body { conn, id, .. } = what {
            let task = self.tasks.iter_mut().find(|task| (task.conn, task.id) == (conn, id));
            task.into_iter().for_each(|task| task.pulled = true);
        }
    }
}

fn cut(part: Part, room: usize) -> (Option<Part>, Option<Part>) {
    match part {
        Part::Bytes(mut bytes) => {
            let rest = bytes.split_off(room.min(bytes.len()));
            let some = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(Part::Bytes(bytes));
            (some(bytes), some(rest))
        }
        Part::Pages(mut view) => {
            let first = view.first(room as u64);
            view.advance(room as u64);
            let some = |view: baton_pool::region::View| (!view.is_empty()).then_some(Part::Pages(view));
            (some(first), some(view))
        }
    }
}

impl Receive {
    fn take_in(
        &mut self,
        now: Now,
        lane: LaneId,
        fetcher: &mut Fetcher,
        pulling: &BTreeMap<PullId, Pulling>,
    ) {
        loop {
            if let Some((stripe, left)) = self.piece {
                let len = self.reading.len().min(usize::try_from(left).unwrap());
                if len == 0 {
                    return;
                }
                let bytes: Vec<u8> = self.reading.drain(..len).collect();
                if let Some((pull, at)) = fetcher.place(lane, stripe)
                    && let Some(Pulling { room, .. }) = pulling.get(&pull)
                {
                    assert!(room.room.write(at, &bytes), "a piece outside of its room");
                }
                fetcher.arrived(now, lane, stripe, len as u64);
                let left = left - len as u64;
                self.piece = (left > 0).then_some((stripe, left));
                continue;
            }
            let Some(header) = self.reading.first_chunk::<HEADER>() else { return };
            let header = Header::parse(header, Road::Pieces).expect("an honest holder");
            let end = HEADER + header.len as usize;
            if header.kind == crate::wire::Kind::End && self.reading.len() < end {
                return;
            }
            match fetcher.receive(now, lane, &header).expect("an honest holder") {
                Sink::Room { len, .. } | Sink::Nowhere { len } => {
                    self.reading.drain(..HEADER);
                    self.piece = (len > 0).then_some((header.id, len));
                }
                Sink::End { stripe } => {
                    let body: Vec<u8> = self.reading.drain(..end).skip(HEADER).collect();
                    fetcher.ended(stripe, &body).expect("an honest holder");
                }
            }
        }
    }
}

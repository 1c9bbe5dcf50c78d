//! A node: what the driver has, on made-up connections.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::Bug;
use super::memory::{Memory, assert_payload, payload};
use super::net::{Chance, Part};
use crate::bulk::{Fetcher, LaneId, PullError, PullId, Sender};
use crate::call::{CallError, Callee, Caller};
use crate::counts::Counters;
use crate::limits::{HELD_BEYOND, Limits};
use crate::payload::{Answer, AnswerKind, Arrived, Incoming, Room};
use crate::reference::{Reference, Token};
use crate::vault::{Now, Terms, Vault};
use crate::wire::{HEADER, Header, Road};

pub(super) mod turn;

pub(super) fn limits() -> Limits {
    Limits {
        calls: 6,
        outbox_bytes: 8192,
        incoming_bytes: 8192,
        chunk: 300,
        window: 900,
        stripes: Some(2),
        stripe_from: 1500,
        pulls_per_lane: 8,
        holds: 64,
        held_bytes: 1 << 20,
        answer_held: Duration::from_secs(4),
        progress_within: Duration::from_millis(700),
        ..Limits::default()
    }
}

/// Bytes that came and are no frame yet.
#[derive(Default)]
pub(super) struct Reading(Vec<u8>);

impl Reading {
    fn frame(&mut self, road: Road) -> Option<(Header, Bytes)> {
        let header = Header::parse(self.0.first_chunk::<HEADER>()?, road).expect("an honest peer");
        let whole = HEADER + header.len as usize;
        if self.0.len() < whole {
            return None;
        }
        let rest = self.0.split_off(whole);
        let frame = std::mem::replace(&mut self.0, rest);
        Some((header, Bytes::from(frame).slice(HEADER..)))
    }
}

pub(super) struct CallOut {
    pub(super) conn: usize,
    pub(super) caller: Caller,
    reading: Reading,
    out: Vec<u8>,
}

pub(super) struct CallIn {
    pub(super) peer: usize,
    pub(super) callee: Callee,
    reading: Reading,
    out: Vec<u8>,
}

pub(super) struct Serve {
    pub(super) sender: Sender,
    reading: Reading,
    parts: VecDeque<Part>,
}

#[derive(Default)]
pub(super) struct Receive {
    conn: usize,
    reading: Vec<u8>,
    piece: Option<(u64, u64)>,
}

/// What a pull is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum For {
    Body { conn: usize, id: u64, number: u64 },
    Answer { number: u64 },
}

pub(super) struct Pulling {
    room: Room,
    at: u64,
    len: u64,
    what: For,
}

pub(super) struct Fetch {
    pub(super) fetcher: Fetcher,
    lanes: BTreeMap<LaneId, Receive>,
    pub(super) pulling: BTreeMap<PullId, Pulling>,
    pub(super) dialling: usize,
}

/// A handler that runs.
pub(super) struct Task {
    pub(super) conn: usize,
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) until: Now,
    pub(super) pulled: bool,
}

/// A call that someone waits for.
pub(super) struct Out {
    pub(super) number: u64,
    pub(super) token: Option<Token>,
    pub(super) again: Option<Incoming>,
}

/// What the world is told.
#[derive(Debug)]
pub(super) enum Told {
    Begun(u64),
    Ended(u64, Result<AnswerKind, CallError>),
    Pulled(For, Result<(), PullError>),
}

pub(super) struct Node {
    pub(super) index: usize,
    pub(super) alive: bool,
    pub(super) life: u64,
    pub(super) jump: Duration,
    pub(super) slow: bool,
    pub(super) draining: bool,
    pub(super) memory: Memory,
    pub(super) vault: Vault,
    counters: Counters,
    pub(super) known: BTreeMap<usize, u64>,
    pub(super) outs: BTreeMap<usize, CallOut>,
    pub(super) ins: BTreeMap<usize, CallIn>,
    pub(super) serves: BTreeMap<usize, Serve>,
    pub(super) fetches: BTreeMap<usize, Fetch>,
    pub(super) tasks: Vec<Task>,
    pub(super) waiting: BTreeMap<(usize, u64), Out>,
    pub(super) told: Vec<Told>,
    pub(super) bug: Option<Bug>,
    pub(super) resets: u64,
    pub(super) again: Vec<(usize, u64, Incoming)>,
    next_lane: LaneId,
    /// This node's time at its last turn.
    pub(super) time: Now,
}

impl Node {
    pub(super) fn new(index: usize, life: u64, seed: u64, bug: Option<Bug>) -> Node {
        let mut chance = Chance::new(seed ^ (index as u64) << 32 ^ life << 48);
        let draw = Box::new(move |out: &mut [u8]| {
            out.iter_mut().for_each(|byte| *byte = chance.next().to_be_bytes()[0]);
            Ok(())
        });
        Node {
            index,
            alive: true,
            life,
            jump: Duration::ZERO,
            slow: false,
            draining: false,
            memory: Memory::new(),
            vault: Vault::new(&index.to_string(), &limits(), draw).unwrap(),
            counters: Counters::default(),
            known: BTreeMap::new(),
            outs: BTreeMap::new(),
            ins: BTreeMap::new(),
            serves: BTreeMap::new(),
            fetches: BTreeMap::new(),
            tasks: Vec::new(),
            waiting: BTreeMap::new(),
            told: Vec::new(),
            bug,
            resets: 0,
            again: Vec::new(),
            next_lane: 1,
            time: Now::ZERO,
        }
    }

    /// A connection is open; `dialled` by this node or by the other.
    pub(super) fn opened(&mut self, now: Now, conn: usize, peer: usize, call: bool, dialled: bool) {
        let limits = limits();
        match (call, dialled) {
            (true, true) => {
                let caller = Caller::new(now, &limits);
                self.outs
                    .insert(peer, CallOut { conn, caller, reading: Reading::default(), out: Vec::new() });
            }
            (true, false) => {
                let mut callee = Callee::new(now, &limits);
                if self.draining {
                    callee.drain();
                }
                self.ins.insert(conn, CallIn { peer, callee, reading: Reading::default(), out: Vec::new() });
            }
            (false, true) => {
                let fetch = self.fetch(peer);
                fetch.dialling = fetch.dialling.saturating_sub(1);
                let lane = self.next_lane;
                self.next_lane += 1;
                let fetch = self.fetch(peer);
                fetch.lanes.insert(lane, Receive { conn, ..Receive::default() });
                fetch.fetcher.lane_up(now, lane);
            }
            (false, false) => {
                let sender = Sender::new(now, &peer.to_string(), &limits);
                let (reading, parts) = (Reading::default(), VecDeque::new());
                self.serves.insert(conn, Serve { sender, reading, parts });
            }
        }
    }

    pub(super) fn fetch(&mut self, peer: usize) -> &mut Fetch {
        self.fetches.entry(peer).or_insert_with(|| Fetch {
            fetcher: Fetcher::new(&limits(), true),
            lanes: BTreeMap::new(),
            pulling: BTreeMap::new(),
            dialling: 0,
        })
    }

    /// A connection is no more.
    pub(super) fn closed(&mut self, now: Now, conn: usize) {
        let peers: Vec<usize> =
            self.outs.iter().filter(|(_, out)| out.conn == conn).map(|(peer, _)| *peer).collect();
        for peer in peers {
            let Some(mut out) = self.outs.remove(&peer) else { continue };
            for (id, error) in out.caller.lost() {
                self.end(peer, id, Err(error));
            }
        }
        if let Some(mut called) = self.ins.remove(&conn) {
            for answer in called.callee.lost() {
                self.withdraw(&answer);
            }
            self.tasks.retain(|task| task.conn != conn);
            self.abort_bodies(|what| matches!(what, For::Body { conn: of, .. } if of == conn));
        }
        self.serves.remove(&conn);
        for fetch in self.fetches.values_mut() {
            let lanes = fetch.lanes.iter().filter(|(_, lane)| lane.conn == conn).map(|(id, _)| *id);
            for lane in lanes.collect::<Vec<_>>() {
                fetch.lanes.remove(&lane);
                fetch.fetcher.lane_down(now, lane);
            }
        }
    }

    fn withdraw(&mut self, answer: &Answer) {
        if let Arrived::Referenced(reference) = answer.body {
            self.vault.revoke(reference.token);
        }
    }

    fn abort_bodies(&mut self, which: impl Fn(For) -> bool) {
        for fetch in self.fetches.values_mut() {
            let pulls = fetch.pulling.iter().filter(|(_, pulling)| which(pulling.what)).map(|(id, _)| *id);
            for pull in pulls.collect::<Vec<_>>() {
                fetch.fetcher.abort(pull);
                fetch.pulling.remove(&pull);
            }
        }
    }

    fn end(&mut self, peer: usize, id: u64, result: Result<Answer, CallError>) {
        let Some(out) = self.waiting.remove(&(peer, id)) else { return };
        if let (Some(Bug::SendAgain), Err(CallError::Lost { .. }), Some(call)) =
            (self.bug, &result, out.again)
        {
            self.again.push((peer, out.number, call));
            return;
        }
        if let Some(token) = out.token {
            self.vault.revoke(token);
        }
        self.told
            .push(Told::Ended(out.number, result.as_ref().map(|answer| answer.kind).map_err(|error| *error)));
        let Ok(answer) = result else { return };
        match answer.body {
            Arrived::Empty => {}
            Arrived::Inline(bytes) => assert_payload(&bytes, !out.number, "an answer's bytes"),
            Arrived::Referenced(reference) => {
                self.pull(peer, reference, For::Answer { number: out.number }, Now::MAX);
            }
        }
    }

    /// Begins a pull if there is room for it.
    fn pull(&mut self, peer: usize, reference: Reference, what: For, deadline: Now) -> bool {
        let now = self.time;
        let Some((room, at)) = self.memory.room(reference.len) else {
            self.fetch(peer).fetcher.release(now, &reference, u64::MAX - reference.len);
            return false;
        };
        let life = self.life;
        let retrieval = u64::try_from(now.as_nanos()).unwrap() ^ at << 40 ^ life << 56;
        let fetch = self.fetch(peer);
        let pull = fetch.fetcher.begin(now, reference, retrieval, deadline.min(now + Duration::from_secs(3)));
        fetch.pulling.insert(pull, Pulling { room, at, len: reference.len, what });
        true
    }

    /// Calls `peer`; whether it was queued.
    pub(super) fn call(
        &mut self,
        now: Now,
        peer: usize,
        call: Incoming,
        number: u64,
    ) -> Result<(), CallError> {
        let token = if let Arrived::Referenced(reference) = call.body { Some(reference.token) } else { None };
        let again = (self.bug == Some(Bug::SendAgain)).then(|| call.clone());
        let begun = match self.outs.get_mut(&peer) {
            None => Err(CallError::NotConnected),
            Some(out) => out.caller.begin(now, call),
        };
        match begun {
            Ok(id) => {
                self.waiting.insert((peer, id), Out { number, token, again });
                Ok(())
            }
            Err(error) => {
                if let Some(token) = token {
                    self.vault.revoke(token);
                }
                Err(error)
            }
        }
    }

    /// Holds the body of a call.
    pub(super) fn hold(
        &mut self,
        now: Now,
        peer: usize,
        number: u64,
        len: u64,
        time: Duration,
    ) -> Option<Reference> {
        let held = self.memory.held(number, len)?;
        self.vault
            .hold(now, &peer.to_string(), held, Terms { expires: time + HELD_BEYOND, retrievals: 1 })
            .ok()
    }

    pub(super) fn cancel(&mut self, peer: usize, id: u64) -> Option<u64> {
        let out = self.waiting.remove(&(peer, id))?;
        if let Some(calling) = self.outs.get_mut(&peer) {
            calling.caller.cancel(id);
        }
        if let Some(token) = out.token {
            self.vault.revoke(token);
        }
        Some(out.number)
    }
}

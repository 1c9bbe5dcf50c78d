//! The road of a replica to the network: an edge whose other end is the node.
//!
//! A function calls [`NETWORK`](baton_abi::boot::NETWORK) as it calls another function; requests and answers go over rings of
//! their own, beside the link, and their payloads by capability. The node has no bell there: it is rung as for the link.
//!
//! ```text
//!  function ──call──▶ ring ──▶ pump ──▶ serve ──▶ Fetch (the node's HTTP client)
//!                     ring ◀── answer ◀─┘ one task a request; a Cancel, or the replica's death, aborts it
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::descriptor::HopCost;
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind};
use baton_pool::link::Duplex;
use bytes::Buf;
use tokio::task::AbortHandle;
use tokio::time::timeout_at;

use crate::app::App;
use crate::invoke::{Body, Head};
use crate::landing::Landing;
use crate::outgoing::{Answered, FetchError, Outgoing};
use crate::replica::{Pumped, Replica};

/// Requests that one app may have out; others wait as long as they may.
pub(crate) const OUT_PER_APP_MAX: usize = 256;
/// The status of a request that its caller gave up; nobody reads it.
const STATUS_CANCELLED: u16 = 504;

/// The node's end of a replica's road to the network.
pub(crate) struct Outlet {
    pub(crate) edge: u16,
    duplex: Duplex,
    /// Requests that may be out: as many as an honest replica's credits.
    most: usize,
    running: BTreeMap<u32, AbortHandle>,
}

/// What a function's requests to the network came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) denied: u64,
    pub(crate) failed: u64,
}

/// A request as it came over the road.
struct Asked {
    tag: u32,
    invocation: u64,
    is_recorded: bool,
    deadline: Instant,
    outgoing: Outgoing,
    origin: String,
    body_bytes: u64,
}

impl Outlet {
    pub(crate) fn new(edge: u16, duplex: Duplex, most: u32) -> Outlet {
        Outlet { edge, duplex, most: most as usize, running: BTreeMap::new() }
    }

    /// Whether nothing waits to be taken.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.duplex.from_peer.is_empty().unwrap_or(false)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

impl Replica {
    /// Takes what is on the road to the network, at most `most` descriptors.
    pub(crate) fn pump_outlet(self: &Rc<Self>, app: &Rc<App>, most: u32) -> Pumped {
        for _ in 0..most {
            let popped = match self.outlet.borrow_mut().as_mut() {
                Some(outlet) => outlet.duplex.from_peer.pop(),
                None => return Pumped::Empty,
            };
            match popped {
                Ok(Some(descriptor)) => {
                    let is_good = self.take_outgoing(app, &descriptor);
                    self.judge(app, is_good);
                    if self.is_silenced() {
                        return Pumped::Broken;
                    }
                }
                Ok(None) => return Pumped::Empty,
                Err(_) => {
                    self.silence("it overran its ring to the network");
                    return Pumped::Broken;
                }
            }
        }
        Pumped::More
    }

    /// Acts on one allegation. `false` if it does not bear checking.
    fn take_outgoing(self: &Rc<Self>, app: &Rc<App>, descriptor: &Descriptor) -> bool {
        let tag = descriptor.tag;
        match Kind::from_u8(descriptor.kind) {
            Some(Kind::Request) => self.begin_outgoing(app, descriptor),
            Some(Kind::Cancel) => {
                let running =
                    self.outlet.borrow_mut().as_mut().and_then(|outlet| outlet.running.remove(&tag));
                // One that is not there was answered meanwhile.
                if let Some(task) = running {
                    task.abort();
                    self.push_outgoing(&failure(tag, 0, STATUS_CANCELLED));
                }
                true
            }
            _ => false,
        }
    }

    fn begin_outgoing(self: &Rc<Self>, app: &Rc<App>, d: &Descriptor) -> bool {
        let known = self.outlet.borrow().as_ref().map(|outlet| {
            (outlet.edge, outlet.running.contains_key(&d.tag), outlet.running.len() >= outlet.most)
        });
        let Some((edge, false, is_crowded)) = known else { return false };
        let Ok(raw) = self.receive(app, d, Some(edge)) else {
            self.push_outgoing(&failure(d.tag, d.invocation, FetchError::NotHeld.status()));
            return false;
        };
        if is_crowded {
            app.give_up(&raw);
            self.push_outgoing(&failure(d.tag, d.invocation, FetchError::Crowded.status()));
            return false;
        }
        let (head, body) = Body::with_head(app, &raw);
        let body_bytes = body.remaining() as u64;
        let outgoing = Outgoing::new(Rc::clone(app), self.function, head, body);
        let asked = Asked {
            tag: d.tag,
            invocation: d.invocation,
            is_recorded: d.flags.has(Flags::RECORD),
            deadline: self.outgoing_deadline(app, d.deadline_ns),
            origin: outgoing.origin(),
            outgoing,
            body_bytes,
        };
        let task = tokio::task::spawn_local(serve(Rc::clone(self), Rc::clone(app), asked));
        if let Some(outlet) = self.outlet.borrow_mut().as_mut() {
            outlet.running.insert(d.tag, task.abort_handle());
        }
        true
    }

    /// What the caller says, and no later than its own function's time.
    fn outgoing_deadline(&self, app: &App, deadline_ns: u64) -> Instant {
        let own = app.functions.get(self.function).map_or(Duration::ZERO, |f| f.spec.timeout.duration());
        let said = match deadline_ns {
            0 => own,
            ns => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                Duration::from_nanos(ns).saturating_sub(Duration::try_from(now).unwrap_or_default())
            }
        };
        Instant::now() + own.min(said)
    }

    /// Sends the answer to `tag`, if one is still owed.
    fn answer_outgoing(
        self: &Rc<Self>,
        app: &Rc<App>,
        (tag, invocation): (u32, u64),
        outcome: Result<Answered, FetchError>,
    ) {
        let owed = self.outlet.borrow_mut().as_mut().and_then(|outlet| outlet.running.remove(&tag));
        if owed.is_none() {
            return;
        }
        let (plain, landing) = match outcome {
            Ok(Answered { status, landing }) => {
                (Descriptor { tag, invocation, code: status, ..Descriptor::new(Kind::Reply) }, Some(landing))
            }
            Err(error) => (failure(tag, invocation, error.status()), text(app, &error.to_string())),
        };
        let filled = landing.map(|landing| self.send_landing(app, landing, invocation));
        match filled {
            Some(Ok((body, head))) => self.push_outgoing(&Descriptor { body, head, ..plain }),
            None => self.push_outgoing(&plain),
            Some(Err(())) => self.condemn("the app's capability table was overwritten"),
        }
    }

    /// Puts an answer's payload on its way over the road.
    fn send_landing(
        &self,
        app: &Rc<App>,
        mut landing: Landing,
        invocation: u64,
    ) -> Result<(Extent, HeadExtent), ()> {
        let edge = self.outlet.borrow().as_ref().map(|outlet| outlet.edge).ok_or(())?;
        let (buffer, whole) = (landing.take().ok_or(())?, landing.whole());
        let (body, mut head) = landing.extents(&buffer);
        if head.len == 0 {
            head = HeadExtent::EMPTY;
        }
        if body == Extent::EMPTY && head == HeadExtent::EMPTY {
            app.release(buffer.handle);
            return Ok((body, head));
        }
        let sent = app.pool.borrow_mut().send_over(&buffer, whole, (edge, self.holder), invocation);
        sent.map(|()| (body, head)).map_err(|_| app.release(buffer.handle))
    }

    fn push_outgoing(self: &Rc<Self>, descriptor: &Descriptor) {
        let pushed = match self.outlet.borrow_mut().as_mut() {
            Some(outlet) => outlet.duplex.to_peer.push(descriptor),
            None => return,
        };
        match pushed {
            Ok(()) => self.ring_soon(),
            Err(_) => self.silence("it does not read its road to the network"),
        }
    }
}

fn failure(tag: u32, invocation: u64, status: u16) -> Descriptor {
    Descriptor { tag, invocation, flags: Flags::ERROR, code: status, ..Descriptor::new(Kind::Reply) }
}

/// A message in the pool; a status alone has to do where there is no room.
fn text(app: &Rc<App>, text: &str) -> Option<Landing> {
    let mut landing = Landing::begin(app, &Head::new(), Some(text.len() as u64)).ok()?;
    landing.write(text.as_bytes()).ok()?;
    Some(landing)
}

/// From a request to its answer.
async fn serve(replica: Rc<Replica>, app: Rc<App>, asked: Asked) {
    let Asked { tag, invocation, is_recorded, deadline, outgoing, origin, body_bytes } = asked;
    let began = Instant::now();
    let outcome = timeout_at(deadline.into(), send_out(&app, outgoing)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(FetchError::Late { host: origin.clone() }));
    count(&app, &replica, &outcome);
    if is_recorded {
        let answer_bytes = outcome.as_ref().map_or(0, |answered| answered.landing.body_len());
        let cost = HopCost {
            invocation,
            caller: replica.holder,
            crossings: 2,
            bytes_handed: body_bytes.saturating_add(answer_bytes),
            wall_ns: u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            status: outcome.as_ref().map_or_else(FetchError::status, |answered| answered.status),
            ..HopCost::default()
        };
        let caller = app.function_name(replica.function).to_owned();
        app.node.receipts.borrow_mut().add(&app.name, &cost, caller, origin);
    }
    replica.answer_outgoing(&app, (tag, invocation), outcome);
}

async fn send_out(app: &App, outgoing: Outgoing) -> Result<Answered, FetchError> {
    let fetch = app.node.fetch.borrow().clone().ok_or(FetchError::Off)?;
    // The semaphore is never closed.
    let _place = app.out.acquire().await.map_err(|_| FetchError::Off)?;
    fetch(outgoing).await
}

fn count(app: &App, replica: &Replica, outcome: &Result<Answered, FetchError>) {
    let Some(state) = app.functions.get(replica.function) else { return };
    let mut counts = state.out.get();
    match outcome {
        Ok(_) => counts.answered += 1,
        Err(error @ FetchError::Denied { .. }) => {
            counts.denied += 1;
            app.node.say(&app.name, "warn", &error.to_string());
        }
        Err(_) => counts.failed += 1,
    }
    state.out.set(counts);
}

//! The roads of a replica that lead out of the node: edges whose other end is the node.
//!
//! A function calls [`NETWORK`](baton_abi::boot::NETWORK), or a function that runs on other nodes, as it calls any other;
//! requests and answers go over rings of their own, beside the link, and their payloads by capability. The node has no bell
//! there: it is rung as for the link.
//!
//! ```text
//!  function ──call──▶ ring ──▶ pump ──▶ serve ─┬▶ Fetch (the node's HTTP client)
//!                     ring ◀── answer ◀────────┴▶ another node
//!           one task a request; a Cancel, or the replica's death, aborts it
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::boot::NODE_PEER;
use baton_abi::descriptor::HopCost;
use baton_abi::{Descriptor, Extent, Flags, HeadExtent, Kind};
use baton_pool::capability::{Handle, Range};
use baton_pool::link::Duplex;
use bytes::Buf;
use tokio::task::AbortHandle;
use tokio::time::timeout_at;

use crate::app::App;
use crate::invoke::Body;
use crate::landing::Landing;
use crate::outgoing::{Answered, FetchError, Outgoing};
use crate::receipts::Beside;
use crate::replica::{Pumped, Replica};

/// Requests to the network that one app may have out; others wait as long as they may.
pub(crate) const OUT_PER_APP_MAX: usize = 256;
/// The status where more share what the node has than may.
const STATUS_CROWDED: u16 = 503;
/// The status of a request that its caller gave up; nobody reads it.
const STATUS_CANCELLED: u16 = 504;

/// What lies behind a road out of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Hosts that the manifest names.
    Network,
    /// A function that does not run on this node, by its index in the app.
    Function(usize),
    /// Payloads that were put up for others.
    References,
    /// The clients of its requests.
    Streams,
}

/// The node's end of a road.
pub(crate) struct Outlet {
    edge: u16,
    beyond: Beyond,
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

/// A request as it came over a road.
pub(crate) struct Asked {
    edge: u16,
    tag: u32,
    pub(crate) operation: u16,
    pub(crate) invocation: u64,
    pub(crate) is_recorded: bool,
    pub(crate) deadline: Instant,
    /// Its payload can be read by others, and is not written any more.
    pub(crate) is_shared: bool,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
}

/// What goes back over it.
pub(crate) struct Returned {
    pub(crate) status: u16,
    /// Whether it is a failure, and whose.
    pub(crate) flags: Flags,
    pub(crate) sent: Sent,
}

/// The payload of what goes back.
pub(crate) enum Sent {
    Nothing,
    /// Moved.
    Landing(Landing),
    /// Shared: the node has it still.
    Shared(Rc<Body>),
}

impl Returned {
    /// A failure in words; the status alone has to do where the pool has no room for them.
    pub(crate) fn failure(app: &Rc<App>, status: u16, flags: Flags, words: &str) -> Returned {
        let sent = Landing::of(app, words.as_bytes()).map_or(Sent::Nothing, Sent::Landing);
        Returned { status, flags: flags.with(Flags::ERROR), sent }
    }
}

impl Outlet {
    pub(crate) fn new(edge: u16, beyond: Beyond, duplex: Duplex, most: u32) -> Outlet {
        Outlet { edge, beyond, duplex, most: most as usize, running: BTreeMap::new() }
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
    /// Takes what is on the roads out of the node, at most `most` descriptors of each.
    pub(crate) fn pump_outlets(self: &Rc<Self>, app: &Rc<App>, most: u32) -> Pumped {
        let roads = self.outlets.borrow().len();
        let mut pumped = Pumped::Empty;
        for road in 0..roads {
            match self.pump_outlet(app, road, most) {
                Pumped::Empty => {}
                Pumped::More => pumped = Pumped::More,
                Pumped::Broken => return Pumped::Broken,
            }
        }
        pumped
    }

    fn pump_outlet(self: &Rc<Self>, app: &Rc<App>, road: usize, most: u32) -> Pumped {
        for _ in 0..most {
            let (popped, beyond) = match self.outlets.borrow_mut().get_mut(road) {
                Some(outlet) => (outlet.duplex.from_peer.pop(), outlet.beyond),
                None => return Pumped::Empty,
            };
            match popped {
                Ok(Some(descriptor)) => {
                    let is_good = self.take_outgoing(app, road, &descriptor);
                    self.judge(app, is_good);
                    if self.is_silenced() {
                        return Pumped::Broken;
                    }
                }
                Ok(None) => return Pumped::Empty,
                Err(_) => {
                    self.silence(match beyond {
                        Beyond::Network => "it overran its ring to the network",
                        Beyond::Function(_) => "it overran its ring to a function on other nodes",
                        Beyond::References => "it overran its ring to references",
                        Beyond::Streams => "it overran its ring to streams",
                    });
                    return Pumped::Broken;
                }
            }
        }
        Pumped::More
    }

    /// Acts on one allegation. `false` if it does not bear checking.
    fn take_outgoing(self: &Rc<Self>, app: &Rc<App>, road: usize, descriptor: &Descriptor) -> bool {
        match Kind::from_u8(descriptor.kind) {
            Some(Kind::Request) => self.begin_outgoing(app, road, descriptor),
            Some(Kind::Cancel) => {
                let tag = descriptor.tag;
                let cancelled = self.outlets.borrow_mut().get_mut(road).and_then(|outlet| {
                    let task = outlet.running.remove(&tag)?;
                    Some((outlet.edge, task))
                });
                // One that is not there was answered meanwhile.
                if let Some((edge, task)) = cancelled {
                    task.abort();
                    self.push_outgoing(edge, &failure(tag, 0, STATUS_CANCELLED));
                }
                true
            }
            _ => false,
        }
    }

    fn begin_outgoing(self: &Rc<Self>, app: &Rc<App>, road: usize, d: &Descriptor) -> bool {
        let known = self.outlets.borrow().get(road).map(|outlet| {
            let is_crowded = outlet.running.len() >= outlet.most;
            (outlet.edge, outlet.beyond, outlet.running.contains_key(&d.tag), is_crowded)
        });
        let Some((edge, beyond, false, is_crowded)) = known else { return false };
        let Ok(raw) = self.receive(app, d, Some(edge)) else {
            self.push_outgoing(edge, &failure(d.tag, d.invocation, FetchError::NotHeld.status()));
            return false;
        };
        if is_crowded {
            app.give_up(&raw);
            self.push_outgoing(edge, &failure(d.tag, d.invocation, FetchError::Crowded.status()));
            return false;
        }
        let (head, body) = Body::with_head(app, &raw);
        let asked = Asked {
            edge,
            tag: d.tag,
            operation: d.code,
            invocation: d.invocation,
            is_recorded: d.flags.has(Flags::RECORD),
            deadline: self.outgoing_deadline(app, beyond, d.deadline_ns),
            is_shared: d.flags.has(Flags::SHARE),
            head,
            body,
        };
        let task = tokio::task::spawn_local(serve(Rc::clone(self), Rc::clone(app), beyond, asked));
        if let Some(outlet) = self.outlets.borrow_mut().get_mut(road) {
            outlet.running.insert(d.tag, task.abort_handle());
        }
        true
    }

    /// What the caller says, and no later than the callee's time; the network's is that of the function that asks it.
    fn outgoing_deadline(&self, app: &App, beyond: Beyond, deadline_ns: u64) -> Instant {
        let bounded_by = match beyond {
            Beyond::Network | Beyond::References | Beyond::Streams => self.function,
            Beyond::Function(callee) => callee,
        };
        let most = app.functions.get(bounded_by).map_or(Duration::ZERO, |f| f.spec.timeout.duration());
        let said = match deadline_ns {
            0 => most,
            ns => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
                Duration::from_nanos(ns).saturating_sub(Duration::try_from(now).unwrap_or_default())
            }
        };
        Instant::now() + most.min(said)
    }

    /// Sends the answer to a request, if one is still owed.
    fn answer_outgoing(
        self: &Rc<Self>,
        app: &Rc<App>,
        (edge, tag): (u16, u32),
        invocation: u64,
        back: Returned,
    ) {
        let mut outlets = self.outlets.borrow_mut();
        let outlet = outlets.iter_mut().find(|outlet| outlet.edge == edge);
        let owed = outlet.and_then(|outlet| outlet.running.remove(&tag));
        drop(outlets);
        if owed.is_none() {
            return;
        }
        let Returned { status: code, flags, sent } = back;
        let plain = Descriptor { tag, invocation, code, flags, ..Descriptor::new(Kind::Reply) };
        match sent {
            Sent::Nothing => self.push_outgoing(edge, &plain),
            Sent::Landing(landing) => match self.send_landing(app, landing, edge, invocation) {
                Ok((body, head)) => self.push_outgoing(edge, &Descriptor { body, head, ..plain }),
                Err(()) => self.condemn("the app's capability table was overwritten"),
            },
            Sent::Shared(body) => match crate::puts::share(app, &body, (edge, self.holder)) {
                Some((Handle { index: handle, generation }, Range { offset, len })) => {
                    let body = Extent { handle, generation, offset, len };
                    let flags = flags.with(Flags::SHARE);
                    self.push_outgoing(edge, &Descriptor { body, flags, ..plain });
                }
                None => self.push_outgoing(edge, &failure(tag, invocation, STATUS_CROWDED)),
            },
        }
    }

    /// Puts an answer's payload on its way over a road.
    fn send_landing(
        &self,
        app: &Rc<App>,
        mut landing: Landing,
        edge: u16,
        invocation: u64,
    ) -> Result<(Extent, HeadExtent), ()> {
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

    fn push_outgoing(self: &Rc<Self>, edge: u16, descriptor: &Descriptor) {
        let pushed = match self.outlets.borrow_mut().iter_mut().find(|outlet| outlet.edge == edge) {
            Some(outlet) => outlet.duplex.to_peer.push(descriptor),
            None => return,
        };
        match pushed {
            Ok(()) => self.ring_soon(),
            Err(_) => self.silence("it does not read a road out of the node"),
        }
    }
}

fn failure(tag: u32, invocation: u64, status: u16) -> Descriptor {
    Descriptor { tag, invocation, flags: Flags::ERROR, code: status, ..Descriptor::new(Kind::Reply) }
}

/// From a request to its answer.
async fn serve(replica: Rc<Replica>, app: Rc<App>, beyond: Beyond, asked: Asked) {
    let (key, invocation) = ((asked.edge, asked.tag), asked.invocation);
    let back = match beyond {
        Beyond::Function(callee) => crate::policy::edge(&replica, &app, callee, asked).await,
        // Apart, so that calls, of which there are most, do not carry the room for them about.
        Beyond::Network => Box::pin(ask_network(&replica, &app, asked)).await,
        Beyond::References => Box::pin(crate::puts::serve::ask(&replica, &app, asked)).await,
        Beyond::Streams => Box::pin(crate::stream::serve::ask(&replica, &app, asked)).await,
    };
    replica.answer_outgoing(&app, key, invocation, back);
}

async fn ask_network(replica: &Replica, app: &Rc<App>, asked: Asked) -> Returned {
    let Asked { invocation, is_recorded, deadline, head, body, .. } = asked;
    let body_bytes = body.remaining() as u64;
    let outgoing = Outgoing::new(Rc::clone(app), replica.function, head, body);
    let origin = outgoing.origin();
    let began = Instant::now();
    let outcome = timeout_at(deadline.into(), send_out(app, outgoing)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(FetchError::Late { host: origin.clone() }));
    count(app, replica, &outcome);
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
        let beside = Beside { is_network: true, ..Beside::default() };
        app.node.traces.borrow_mut().add(&app.name, &cost, (NODE_PEER, &origin), None);
        app.node.receipts.borrow_mut().add(&app.name, &cost, (caller, origin), beside);
    }
    match outcome {
        Ok(Answered { status, landing }) => {
            Returned { status, flags: Flags::MOVE, sent: Sent::Landing(landing) }
        }
        Err(error) => Returned::failure(app, error.status(), Flags::MOVE, &error.to_string()),
    }
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

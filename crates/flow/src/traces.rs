//! Spans: an invocation that is traced and its calls, with times and parents.
//!
//! ```text
//!   begin ─▶ open ── hops report their costs ──▶ end ── a moment later ──▶ spans, until an exporter takes them
//!                    (like receipts, maybe after the answer)
//! ```
//! A hop says which replica served it, for whom, from when to when. Its parent is the hop of that caller that was under way
//! then; of several, the one that began last. What a replica says of times is kept within those of the invocation.
//!
//! Everything here is bounded: what finds no room is dropped, and counted.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use baton_abi::descriptor::HopCost;
use baton_policy::{SpanEnd, Trace};

use crate::app::App;
use crate::receipts::name;
use crate::status::TracesStatus;
use crate::watch::{TraceContext, Traced};

/// Invocations that are traced at a time.
const OPEN_MAX: usize = 4096;
/// Hops of one invocation that become spans.
const HOPS_MAX: usize = 512;
/// Spans that wait for an exporter.
const SPANS_MAX: usize = 16_384;
/// How long an invocation that was answered waits for what its hops say.
const SETTLE: Duration = Duration::from_millis(250);
/// What an invocation ends with whose client has left.
const STATUS_LEFT: u16 = 499;
/// How long one may stay open at all; then it is dropped.
const OPEN_TIME_MAX: Duration = Duration::from_secs(600);
/// Invocations that ended whose traces are still known, for lines that functions wrote meanwhile.
const REMEMBERED_MAX: usize = 4096;

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
}

/// One span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: u128,
    /// The span.
    pub span: u64,
    /// The span that it is part of; 0 for none.
    pub parent: u64,
    /// Whether it is the invocation itself, as the gateway served it.
    pub is_server: bool,
    /// What it was.
    pub name: String,
    /// Its beginning, nanoseconds since the epoch.
    pub began_ns: u64,
    /// Its end.
    pub ended_ns: u64,
    /// Whether it failed.
    pub is_error: bool,
    /// What else is known.
    pub attributes: Vec<(&'static str, Value)>,
}

/// One call, as the replica that served it says.
#[derive(Clone, Debug)]
struct Hop {
    caller: u16,
    served_by: u16,
    function: String,
    began_ns: u64,
    ended_ns: u64,
    cost: HopCost,
    node: Option<String>,
}

#[derive(Debug)]
struct Open {
    traced: Traced,
    app: String,
    function: String,
    /// By the monotonic clock, nanoseconds.
    began_ns: u64,
    ended_ns: Option<u64>,
    since: Instant,
    status: u16,
    hops: Vec<Hop>,
    policies: Option<Policies>,
}

/// A request between its policies, as a handler of them saw it.
#[derive(Debug)]
struct Policies {
    span: u64,
    method: String,
    path: String,
    status: u16,
    began_ns: u64,
    ended_ns: u64,
}

/// All traced invocations, and the spans that came of them.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    open: HashMap<u64, Open>,
    /// Invocations that were answered, with when, in that order.
    ended: VecDeque<(Instant, u64)>,
    spans: VecDeque<Span>,
    pub(crate) known: Rc<Known>,
    pub(crate) status: TracesStatus,
}

/// The traces of the invocations that were traced last, for what functions write about them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    found: RefCell<HashMap<u64, (u128, u64)>>,
    order: RefCell<VecDeque<u64>>,
}

impl Known {
    fn remember(&self, invocation: u64, traced: Traced) {
        let (mut found, mut order) = (self.found.borrow_mut(), self.order.borrow_mut());
        if order.len() == REMEMBERED_MAX
            && let Some(oldest) = order.pop_front()
        {
            found.remove(&oldest);
        }
        order.push_back(invocation);
        found.insert(invocation, (traced.context.trace, traced.context.span));
    }

    /// The trace that an invocation is part of, and its first span.
    pub(crate) fn of(&self, invocation: u64) -> Option<(u128, u64)> {
        let found = self.found.borrow();
        if found.is_empty() || invocation == 0 { None } else { found.get(&invocation).copied() }
    }
}

/// The span of an invocation that is under way. Its client may leave: then it ends when this is dropped.
pub(crate) struct OpenSpan {
    app: Rc<App>,
    invocation: u64,
}

impl OpenSpan {
    pub(crate) fn begin(
        app: &Rc<App>,
        invocation: u64,
        traced: Traced,
        function: usize,
        elapsed: Duration,
    ) -> OpenSpan {
        let of = (app.name.as_str(), app.function_name(function));
        app.node.traces.borrow_mut().begin(invocation, traced, of, elapsed);
        OpenSpan { app: Rc::clone(app), invocation }
    }

    pub(crate) fn end(self, status: u16) {
        self.app.node.traces.borrow_mut().end(self.invocation, status);
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        // Changes nothing if it has ended.
        self.app.node.traces.borrow_mut().end(self.invocation, STATUS_LEFT);
    }
}

/// Nanoseconds of the monotonic clock, as replicas read it.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(Duration::try_from(now).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// The point in time of which a hop says only the low bits; the last one that is not in the future.
fn whole(now_ns: u64, low: u64) -> u64 {
    now_ns.saturating_sub(now_ns.wrapping_sub(low) & HopCost::BEGAN_MAX)
}

impl Traces {
    /// An invocation begins that is traced; `elapsed` since its head was read.
    pub(crate) fn begin(
        &mut self,
        invocation: u64,
        traced: Traced,
        (app, function): (&str, &str),
        elapsed: Duration,
    ) {
        if self.open.len() >= OPEN_MAX {
            self.forget_lost();
        }
        if self.open.len() >= OPEN_MAX {
            self.status.dropped += 1;
            return;
        }
        self.status.sampled += 1;
        self.known.remember(invocation, traced);
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(0);
        let open = Open {
            traced,
            app: app.to_owned(),
            function: function.to_owned(),
            began_ns: now_ns().saturating_sub(elapsed),
            ended_ns: None,
            since: Instant::now(),
            status: 0,
            hops: Vec::new(),
            policies: None,
        };
        self.open.insert(invocation, open);
    }

    /// It was answered.
    pub(crate) fn end(&mut self, invocation: u64, status: u16) {
        if let Some(open) = self.open.get_mut(&invocation).filter(|open| open.ended_ns.is_none()) {
            open.ended_ns = Some(now_ns());
            open.status = status;
            self.ended.push_back((Instant::now(), invocation));
        }
    }

    /// A replica of `app` says what a hop cost. It can only say so of its own app's invocations.
    pub(crate) fn add(
        &mut self,
        app: &str,
        cost: &HopCost,
        (served_by, function): (u16, &str),
        node: Option<&str>,
    ) {
        if self.open.is_empty() {
            return;
        }
        let fits = |open: &&mut Open| open.app == app && open.hops.len() < HOPS_MAX;
        let Some(open) = self.open.get_mut(&cost.invocation).filter(fits) else { return };
        let now = now_ns();
        let began =
            if cost.began_ns == 0 { now.saturating_sub(cost.wall_ns) } else { whole(now, cost.began_ns) };
        open.hops.push(Hop {
            caller: cost.caller,
            served_by,
            function: function.to_owned(),
            began_ns: began,
            ended_ns: began.saturating_add(cost.wall_ns),
            cost: *cost,
            node: node.map(str::to_owned),
        });
    }

    /// A handler of policies says what became of a request. Of one that began no invocation nobody else tells: then this is all.
    pub(crate) fn policies(&mut self, app: &str, end: &SpanEnd<'_>) {
        let ended_ns = now_ns();
        let began_ns = ended_ns.saturating_sub(end.duration_ns);
        let policies = Policies {
            span: end.span,
            method: end.method.to_owned(),
            path: end.path.to_owned(),
            status: end.status,
            began_ns,
            ended_ns,
        };
        if end.invocation != 0 {
            if let Some(open) = self.open.get_mut(&end.invocation).filter(|open| open.app == app) {
                open.policies = Some(policies);
            }
            return;
        }
        self.status.sampled += 1;
        let Trace { trace, span, parent } = end.trace;
        let open = Open {
            traced: Traced { context: TraceContext { trace, span, is_sampled: true }, parent },
            app: app.to_owned(),
            function: end.function.to_owned(),
            began_ns,
            ended_ns: Some(ended_ns),
            since: Instant::now(),
            status: end.status,
            hops: Vec::new(),
            policies: Some(policies),
        };
        // Without hops no number is drawn.
        self.queue(spans(0, &open, &|| 0, wall_offset()));
    }

    fn queue(&mut self, made: Vec<Span>) {
        let room = SPANS_MAX.saturating_sub(self.spans.len());
        self.status.dropped += made.len().saturating_sub(room) as u64;
        self.spans.extend(made.into_iter().take(room));
        self.status.waiting = self.spans.len() as u64;
    }

    /// Invocations that will never be answered: their clients left.
    fn forget_lost(&mut self) {
        let before = self.open.len();
        self.open.retain(|_, open| open.ended_ns.is_some() || open.since.elapsed() < OPEN_TIME_MAX);
        self.status.dropped += (before - self.open.len()) as u64;
    }

    /// Spans of what has settled, `max` of them at most; oldest first. `draw` numbers them.
    pub(crate) fn take(&mut self, max: usize, draw: impl Fn() -> u64, at_once: bool) -> Vec<Span> {
        self.forget_lost();
        let offset = wall_offset();
        while let Some(&(at, invocation)) = self.ended.front()
            && (at_once || at.elapsed() >= SETTLE)
        {
            self.ended.pop_front();
            let Some(open) = self.open.remove(&invocation) else { continue };
            self.queue(spans(invocation, &open, &draw, offset));
        }
        let taken: Vec<Span> = self.spans.drain(..max.min(self.spans.len())).collect();
        self.status.waiting = self.spans.len() as u64;
        taken
    }
}

/// What has to be added to the monotonic clock, nanoseconds, to come to the time since the epoch.
fn wall_offset() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0).saturating_sub(now_ns())
}

fn spans(invocation: u64, open: &Open, draw: &impl Fn() -> u64, offset: u64) -> Vec<Span> {
    let Traced { context, parent } = open.traced;
    let ended = open.ended_ns.unwrap_or(open.began_ns).max(open.began_ns);
    let within = |ns: u64| ns.clamp(open.began_ns, ended);
    let named = (invocation != 0).then(|| ("baton.invocation", Value::Text(name(invocation))));
    let of_app =
        [("baton.app", Value::Text(open.app.clone())), ("faas.name", Value::Text(open.function.clone()))];
    let status = |status: u16| ("http.response.status_code", Value::Number(u64::from(status)));
    let root = Span {
        trace: context.trace,
        span: context.span,
        parent,
        is_server: true,
        name: format!("{}/{}", open.app, open.function),
        began_ns: open.began_ns.saturating_add(offset),
        ended_ns: ended.saturating_add(offset),
        is_error: open.status >= 500,
        attributes: named.into_iter().chain(of_app.clone()).chain([status(open.status)]).collect(),
    };
    let policies = open.policies.as_ref().map(|policies| Span {
        trace: context.trace,
        span: policies.span,
        parent: context.span,
        is_server: false,
        name: format!("{} policies", root.name),
        began_ns: within(policies.began_ns).saturating_add(offset),
        ended_ns: within(policies.ended_ns).saturating_add(offset),
        is_error: policies.status >= 500,
        attributes: of_app
            .into_iter()
            .chain([
                ("http.request.method", Value::Text(policies.method.clone())),
                ("url.path", Value::Text(policies.path.clone())),
                status(policies.status),
            ])
            .collect(),
    });
    // What the gateway calls is called from between the policies.
    let outer = policies.as_ref().map_or(context.span, |policies| policies.span);
    let ids: Vec<u64> = open.hops.iter().map(|_| draw()).collect();
    let hops = open.hops.iter().zip(&ids).enumerate().map(|(index, (hop, &span))| {
        let parent = parent_of(&open.hops, index).and_then(|parent| ids.get(parent).copied());
        let cost = &hop.cost;
        let mut attributes = vec![
            ("baton.app", Value::Text(open.app.clone())),
            ("faas.name", Value::Text(hop.function.clone())),
            ("baton.replica", Value::Number(u64::from(hop.served_by))),
            ("baton.operation", Value::Number(u64::from(cost.operation))),
            ("baton.status", Value::Number(u64::from(cost.status))),
            ("baton.copies", Value::Number(u64::from(cost.copies))),
            ("baton.bytes_copied", Value::Number(cost.bytes_copied)),
            ("baton.bytes_handed", Value::Number(cost.bytes_handed)),
            ("baton.crossings", Value::Number(u64::from(cost.crossings))),
            ("baton.context_switches", Value::Number(u64::from(cost.switches))),
            ("baton.cpu_ns", Value::Number(cost.cpu_ns)),
        ];
        attributes.extend(hop.node.clone().map(|node| ("baton.node", Value::Text(node))));
        Span {
            trace: context.trace,
            span,
            parent: parent.unwrap_or(outer),
            is_server: false,
            name: hop.function.clone(),
            began_ns: within(hop.began_ns).saturating_add(offset),
            ended_ns: within(hop.ended_ns).saturating_add(offset),
            is_error: cost.status >= 500,
            attributes,
        }
    });
    std::iter::once(root).chain(policies).chain(hops).collect()
}

/// The hop during which a hop's caller made its call; `None` if that was the gateway, or is not known.
fn parent_of(hops: &[Hop], index: usize) -> Option<usize> {
    let hop = hops.get(index).filter(|hop| hop.caller != 0)?;
    let encloses = |other: &Hop| {
        other.served_by == hop.caller && other.began_ns <= hop.began_ns && hop.began_ns <= other.ended_ns
    };
    let candidates = hops.iter().enumerate().filter(|(at, other)| *at != index && encloses(other));
    candidates.max_by_key(|(_, other)| other.began_ns).map(|(at, _)| at)
}

#[cfg(test)]
mod tests;

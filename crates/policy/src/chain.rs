//! The handlers of one function, in their order, and how a request goes through them.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use baton_catalog::Segment;
use baton_catalog::policy::{Handler, Source};

use crate::clients::{Names, Rule};
use crate::edits::{Changes, Origin, Prepared};
use crate::jwt::{KeyFile, Tokens};
use crate::keys::Keys;
use crate::limits::{AtOnce, Circuit, InTime};
use crate::report::{Counts, Outcomes};
use crate::request::{Now, Request};
use crate::retries::Again;
use crate::schema::{FIELDS_BYTES_MAX, Fork, Form};
use crate::set::Around;
use crate::span::traceparent;
use crate::ticket::{Held, Ticket};
use crate::verdict::Refusal;

/// One request of so many has its handlers timed one by one.
const TIMED_ONE_OF: u32 = 64;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a handler, of which a panic is caught: whoever takes a panic for the end of the node asks.
#[must_use]
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// One handler at work.
pub(crate) struct Slot {
    pub(crate) settings: Handler,
    only: Filter,
    pub(crate) step: Step,
    pub(crate) counts: Counts,
}

/// What a handler does, with what it keeps.
pub(crate) enum Step {
    Log(Option<Source>),
    Span,
    Metrics(Outcomes),
    Forwarded(Origin),
    TimeOut(Duration),
    Retry(Again),
    RateLimit(RefCell<InTime>),
    Concurrency(RefCell<AtOnce>),
    Breaker(RefCell<Circuit>),
    ApiKeys(Keys),
    Jwt(RefCell<Tokens>, Rc<KeyFile>),
    Identity(Names),
    Authorize(Rule),
    Headers {
        request: Changes,
        response: Changes,
        fixed: Option<Prepared>,
    },
    Schema(Form),
    Fork(Fork),
    Ask(String),
    /// Says whether it is guarded, and panics.
    #[cfg(test)]
    Panic(Rc<Cell<bool>>),
}

/// What is left to do once the body is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Late {
    /// A look at the body, if it has no more bytes than this; a larger one is passed as `None`.
    Body {
        /// Which handler.
        at: usize,
        /// The largest that it takes, bytes.
        bytes_max: u64,
    },
    /// A question to a function of the app.
    Ask {
        /// Which handler.
        at: usize,
        /// Which function.
        function: String,
    },
}

impl Slot {
    pub(crate) fn new(settings: &Handler, file: impl FnOnce() -> Rc<KeyFile>) -> Result<Self, String> {
        let step = match settings {
            Handler::Log(log) => Step::Log(log.key.clone()),
            Handler::Span(_) => Step::Span,
            Handler::Metrics(_) => Step::Metrics(Outcomes::default()),
            Handler::Forwarded(forwarded) => Step::Forwarded(Origin::new(forwarded)),
            Handler::TimeOut(timeout) => Step::TimeOut(timeout.after.duration()),
            Handler::Retry(retry) => Step::Retry(Again::new(retry)),
            Handler::RateLimit(limit) => Step::RateLimit(RefCell::new(InTime::new(limit))),
            Handler::Concurrency(limit) => Step::Concurrency(RefCell::new(AtOnce::new(limit))),
            Handler::Breaker(breaker) => Step::Breaker(RefCell::new(Circuit::new(breaker))),
            Handler::ApiKeys(keys) => Step::ApiKeys(Keys::new(keys)?),
            Handler::Jwt(jwt) => {
                let file = file();
                Step::Jwt(RefCell::new(Tokens::new(jwt, Rc::clone(&file))), file)
            }
            Handler::Identity(identity) => Step::Identity(Names::new(identity)),
            Handler::Authorize(authorize) => Step::Authorize(Rule::new(authorize)),
            Handler::Headers(headers) => {
                let response = Changes::new(&headers.response);
                let empty = Request::of(&[], crate::Client::default());
                let fixed = response.is_fixed().then(|| response.prepared(&empty));
                Step::Headers { request: Changes::new(&headers.request), response, fixed }
            }
            Handler::Schema(schema) => Step::Schema(Form::new(schema)?),
            Handler::RouteTo(route) => Step::Fork(Fork::new(route)),
            Handler::Ask(ask) => Step::Ask(ask.function.to_string()),
        };
        let only = Filter::new(settings);
        Ok(Self { settings: settings.clone(), only, step, counts: Counts::default() })
    }

    fn is_late(&self) -> bool {
        match &self.step {
            Step::Schema(_) | Step::Ask(_) => true,
            Step::Fork(fork) => fork.reads_body(),
            _ => false,
        }
    }

    /// Whether it is told of the end.
    fn hears(&self) -> bool {
        matches!(
            self.step,
            Step::Log(_) | Step::Span | Step::Metrics(_) | Step::Concurrency(_) | Step::Breaker(_)
        )
    }

    fn edits_answers(&self) -> bool {
        matches!(&self.step, Step::Headers { response, .. } if !response.is_empty())
    }

    fn admit(
        &self,
        at: usize,
        request: &mut Request<'_>,
        now: Now,
        ticket: &mut Ticket,
    ) -> Result<(), Refusal> {
        match &self.step {
            Step::Log(key) => {
                ticket.keep_line(request);
                ticket.traced = request.client.trace.map(|trace| (trace.trace, trace.span));
                let text = key.as_ref().and_then(|key| request.text(key));
                ticket.key = text.map(|text| String::from_utf8_lossy(&text).into_owned());
            }
            Step::Span => {
                // Without a trace that someone records there is nothing that a span could be part of.
                if let Some(trace) = request.client.trace {
                    ticket.keep_line(request);
                    let span = ticket.chain.around.id();
                    request.set("traceparent", &traceparent(trace.trace, span));
                    ticket.span = Some((trace, span));
                }
            }
            Step::Metrics(_) => {}
            Step::Forwarded(origin) => origin.on_request(request),
            Step::TimeOut(after) => ticket.shorten(*after),
            Step::Retry(again) => {
                again.earn();
                ticket.retry = Some(at);
            }
            Step::RateLimit(limit) => limit.borrow_mut().admit(request, now)?,
            Step::Concurrency(limit) => {
                let key = limit.borrow_mut().admit(request)?;
                ticket.held.push((at, Held::Place(key)));
            }
            Step::Breaker(circuit) => {
                let pass = circuit.borrow_mut().admit(now)?;
                ticket.held.push((at, Held::Pass(pass)));
            }
            Step::ApiKeys(keys) => keys.admit(request)?,
            Step::Jwt(tokens, _) => tokens.borrow_mut().admit(request, now)?,
            Step::Identity(names) => names.admit(request)?,
            Step::Authorize(rule) => rule.admit(request)?,
            Step::Headers { request: changes, response, fixed } => {
                changes.on_request(request);
                if fixed.is_none() && !response.is_empty() {
                    ticket.held.push((at, Held::Changes(response.prepared(request))));
                }
            }
            Step::Fork(fork) => {
                if let Some(to) = fork.choose(request, None) {
                    ticket.to = Some(to.to_owned());
                }
            }
            Step::Schema(_) | Step::Ask(_) => {}
            #[cfg(test)]
            Step::Panic(guarded) => {
                guarded.set(is_guarded());
                panic!("a handler's own bug")
            }
        }
        Ok(())
    }

    /// Looks at a body; `None` if it is larger than the handler takes.
    fn look(&self, request: &Request<'_>, body: Option<&[u8]>, ticket: &mut Ticket) -> Result<(), Refusal> {
        match &self.step {
            Step::Schema(form) => match body {
                Some(body) => form.check(body),
                None => Err(Refusal::new(413, "the body is larger than this service takes; send less")),
            },
            Step::Fork(fork) => {
                if let Some(to) = fork.choose(request, body) {
                    ticket.to = Some(to.to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The handlers that the requests of one function pass. Sets of them are words of a bit each: there are 64 at most.
pub struct Chain {
    pub(crate) function: String,
    pub(crate) slots: Vec<Rc<Slot>>,
    pub(crate) around: Rc<dyn Around>,
    /// Those that are for every request of a client.
    always: u64,
    late: u64,
    /// Those that hear of the end.
    pub(crate) hears: u64,
    /// Those that change answers.
    pub(crate) edits: u64,
    reads_wall: bool,
    requests: Cell<u32>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.slots.iter().map(|slot| slot.settings.kind().as_str());
        f.debug_struct("Chain")
            .field("function", &self.function)
            .field("handlers", &words.collect::<Vec<_>>())
            .finish()
    }
}

impl Chain {
    pub(crate) fn new(function: &str, slots: Vec<Rc<Slot>>, around: &Rc<dyn Around>) -> Self {
        let those = |is: fn(&Slot) -> bool| {
            let bits = slots.iter().enumerate().map(|(at, slot)| u64::from(is(slot)) << at);
            bits.fold(0, |all, bit| all | bit)
        };
        Self {
            function: function.to_owned(),
            always: those(|slot| slot.only.is_open()),
            late: those(Slot::is_late),
            hears: those(Slot::hears),
            edits: those(Slot::edits_answers),
            reads_wall: slots.iter().any(|slot| matches!(slot.step, Step::Jwt(..))),
            slots,
            around: Rc::clone(around),
            requests: Cell::new(0),
        }
    }

    /// Whether handlers want to know [`Now::unix_s`].
    #[must_use]
    pub fn reads_wall(&self) -> bool {
        self.reads_wall
    }

    pub(crate) fn slot(&self, at: usize) -> Option<&Slot> {
        self.slots.get(at).map(Rc::as_ref)
    }

    /// Which handlers are for a request.
    fn applying(&self, request: &Request<'_>) -> u64 {
        let known = if request.client.caller.is_none() { self.always } else { 0 };
        let all = u64::MAX.checked_shr(64 - u32::try_from(self.slots.len()).unwrap_or(64)).unwrap_or(0);
        let matching =
            places(all & !known).filter(|at| self.slot(*at).is_some_and(|slot| slot.only.matches(request)));
        matching.fold(known, |all, at| all | 1 << at)
    }

    /// Has a request pass all handlers that need its head only. The ticket has to be ended, whatever the verdict.
    pub fn admit(self: &Rc<Self>, request: &mut Request<'_>, now: Now) -> (Box<Ticket>, Result<(), Refusal>) {
        let mut ticket = Box::new(Ticket::new(self, now.ns, self.applying(request)));
        let count = self.requests.get().wrapping_add(1);
        self.requests.set(count);
        ticket.is_timed = count.is_multiple_of(TIMED_ONE_OF);
        let early = ticket.applies & !self.late;
        let verdict = self.each(&mut ticket, early, |slot, at, ticket| slot.admit(at, request, now, ticket));
        (ticket, verdict)
    }

    /// Has a body, or what was asked about it, pass one late handler.
    pub(crate) fn look(
        &self,
        ticket: &mut Ticket,
        at: usize,
        request: &Request<'_>,
        body: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let only = ticket.applies & (1 << at);
        self.each(ticket, only, |slot, _, ticket| slot.look(request, body, ticket))
    }

    pub(crate) fn has_late(&self, ticket: &Ticket) -> bool {
        ticket.applies & self.late != 0
    }

    /// What is left once the body is complete, in order.
    pub(crate) fn late(&self, ticket: &Ticket) -> Vec<Late> {
        let late = places(ticket.applies & self.late).filter_map(|at| Some((at, self.slot(at)?)));
        late.map(|(at, slot)| match &slot.step {
            Step::Ask(function) => Late::Ask { at, function: function.clone() },
            Step::Schema(form) => Late::Body { at, bytes_max: form.bytes_max },
            _ => Late::Body { at, bytes_max: FIELDS_BYTES_MAX },
        })
        .collect()
    }

    /// Runs handlers in order until one refuses. One that panics refuses, and is counted.
    fn each<'c>(
        &'c self,
        ticket: &mut Ticket,
        which: u64,
        mut run: impl FnMut(&'c Slot, usize, &mut Ticket) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut current = None;
        let mut all = || {
            let mut began_ns = if ticket.is_timed { self.around.ns() } else { 0 };
            for at in places(which) {
                let Some(slot) = self.slot(at) else { continue };
                current = Some(slot);
                let verdict = run(slot, at, ticket);
                if ticket.is_timed {
                    let ended_ns = self.around.ns();
                    slot.counts.took(ended_ns.saturating_sub(began_ns));
                    began_ns = ended_ns;
                }
                match verdict {
                    Ok(()) => slot.counts.pass(),
                    Err(refusal) => {
                        slot.counts.refuse();
                        return Err(refusal);
                    }
                }
                ticket.passed |= 1 << at;
            }
            Ok(())
        };
        // What a handler was about to change is its own; the request that met it ends here.
        let guarded = GUARDED.replace(true);
        let caught = catch_unwind(AssertUnwindSafe(&mut all));
        GUARDED.set(guarded);
        caught.unwrap_or_else(|_| {
            if let Some(slot) = current {
                slot.counts.panic();
            }
            Err(Refusal::panicked())
        })
    }
}

/// The places of the bits that are set, the lowest first.
fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = bits.trailing_zeros();
        (at < u64::BITS).then(|| {
            bits &= bits - 1;
            at as usize
        })
    })
}

/// Which requests a handler is for.
struct Filter {
    paths: Vec<Vec<Segment>>,
    methods: Vec<String>,
    callers: Vec<String>,
    /// Whether it says which functions may call.
    judges_callers: bool,
}

impl Filter {
    fn new(settings: &Handler) -> Self {
        let only = settings.only();
        let judges_callers = matches!(settings, Handler::Authorize(rule) if !rule.callers.is_empty());
        Self {
            judges_callers,
            paths: only.paths.iter().map(|path| path.segments().to_vec()).collect(),
            methods: only.methods.iter().map(|method| method.as_str().to_owned()).collect(),
            callers: only.callers.iter().map(ToString::to_string).collect(),
        }
    }

    /// Whether it leaves out nothing that a client sends.
    fn is_open(&self) -> bool {
        self.paths.is_empty() && self.methods.is_empty() && self.callers.is_empty()
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        // As routes have it: HEAD goes where GET goes, or a guard of GET would not see it.
        let method = if request.method == "HEAD" { "GET" } else { request.method };
        let is_method = |known: &String| known == method || known == request.method;
        (self.methods.is_empty() || self.methods.iter().any(is_method))
            && (self.paths.is_empty() || self.paths.iter().any(|path| is_path(path, request.path)))
            && match request.client.caller {
                // A function is known to the node: it has neither token nor key to show.
                Some(caller) => self.callers.iter().any(|known| known == caller) || self.judges_callers,
                None => self.callers.is_empty(),
            }
    }
}

/// Whether a path is of a pattern, by the rules of routes.
fn is_path(pattern: &[Segment], path: &str) -> bool {
    let Some(mut rest) = path.strip_prefix('/') else { return false };
    let mut segments = pattern.iter().peekable();
    while let Some(segment) = segments.next() {
        if let Segment::Wildcard(_) = segment {
            return !rest.is_empty();
        }
        let (own, more) = match rest.split_once('/') {
            Some((own, more)) => (own, Some(more)),
            None => (rest, None),
        };
        let fits = match segment {
            Segment::Literal(text) => **text == *own,
            _ => !own.is_empty(),
        };
        match (fits, more, segments.peek()) {
            (true, Some(more), Some(_)) => rest = more,
            (true, None, None) => return true,
            _ => return false,
        }
    }
    // The pattern of the root has no segment.
    rest.is_empty()
}

#[cfg(test)]
mod tests;

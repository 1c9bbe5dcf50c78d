//! What is kept of a request between its head and its answer.

use std::rc::Rc;
use std::time::Duration;

use crate::answer::Outcome;
use crate::chain::{Chain, Late, Step};
use crate::edits::Prepared;
use crate::limits::Pass;
use crate::request::{Now, Request};
use crate::retries::{Attempt, Failed};
use crate::span::{SpanContext, SpanEnd};
use crate::verdict::Refusal;

/// What a handler wants back, or keeps for the answer.
#[derive(Debug)]
pub(crate) enum Held {
    Place(u64),
    Pass(Pass),
    Changes(Prepared),
}

/// A request between its head and its answer. Dropped without an end, its client has left.
pub struct Ticket {
    pub(crate) chain: Rc<Chain>,
    began: Now,
    /// Handlers that are for it, and those of them that let it pass, a bit each.
    pub(crate) applies: u64,
    pub(crate) passed: u64,
    pub(crate) held: Vec<(usize, Held)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<usize>,
    pub(crate) to: Option<String>,
    pub(crate) span: Option<SpanContext>,
    pub(crate) key: Option<String>,
    pub(crate) is_timed: bool,
    /// Method and path, one behind the other, where someone wants them.
    asked: String,
    method_len: usize,
    /// Bytes of its body.
    pub bytes_in: u64,
    is_over: bool,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("chain", &self.chain)
            .field("passed", &self.passed)
            .finish_non_exhaustive()
    }
}

/// What the log handler says of a request.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The function.
    pub function: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path, without its query: that may hold secrets.
    pub path: &'a str,
    /// What its client sees; 499 if it left.
    pub status: u16,
    /// From its head to its answer.
    pub duration_ns: u64,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of its answer's body.
    pub bytes_out: u64,
    /// The invocation, 0 if none began.
    pub invocation: u64,
    /// What the handler's `key` stands for.
    pub key: Option<&'a str>,
}

impl Ticket {
    pub(crate) fn new(chain: &Rc<Chain>, began: Now) -> Self {
        Self {
            chain: Rc::clone(chain),
            began,
            applies: 0,
            passed: 0,
            held: Vec::new(),
            timeout: None,
            retry: None,
            to: None,
            span: None,
            key: None,
            is_timed: false,
            asked: String::new(),
            method_len: 0,
            bytes_in: 0,
            is_over: false,
        }
    }

    pub(crate) fn is_for(&self, at: usize) -> bool {
        self.applies & (1 << at) != 0
    }

    fn has_passed(&self, at: usize) -> bool {
        self.passed & (1 << at) != 0
    }

    pub(crate) fn keep_line(&mut self, request: &Request<'_>) {
        if self.asked.is_empty() {
            self.asked.reserve_exact(request.method.len() + request.path.len());
            self.asked.push_str(request.method);
            self.asked.push_str(request.path);
            self.method_len = request.method.len();
        }
    }

    pub(crate) fn shorten(&mut self, after: Duration) {
        self.timeout = Some(self.timeout.map_or(after, |before| before.min(after)));
    }

    /// How long the function has, if handlers say so.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The function that handlers lead it to, in the place of its own.
    pub fn take_target(&mut self) -> Option<String> {
        self.to.take()
    }

    /// What is left to do once the body is complete, in order; nothing for most.
    #[must_use]
    pub fn late(&self) -> Vec<Late> {
        self.chain.late(self)
    }

    /// Has the body pass a late handler; `None` if it is larger than that takes.
    ///
    /// # Errors
    /// It does not let it pass.
    pub fn look(&mut self, at: usize, request: &Request<'_>, body: Option<&[u8]>) -> Result<(), Refusal> {
        let chain = Rc::clone(&self.chain);
        chain.look(self, at, request, body)
    }

    /// What a function said that a late handler asked: a status, headers, and the beginning of its body. Headers called `pass-NAME`
    /// are set on the request as `NAME`, and those that `drop` names are taken away.
    ///
    /// # Errors
    /// It does not let the request pass: its status is none of 200 to 299.
    pub fn asked<'r>(
        &mut self,
        at: usize,
        request: &mut Request<'_>,
        said: (u16, impl Iterator<Item = (&'r str, &'r [u8])>, &str),
    ) -> Result<(), Refusal> {
        let (status, headers, words) = said;
        let counts = self.chain.slots.get(at).map(|slot| &slot.counts);
        if !(200..300).contains(&status) {
            counts.inspect(|counts| counts.refuse());
            let words = if words.is_empty() { "the request was not let through" } else { words };
            let status = if (400..=599).contains(&status) { status } else { 500 };
            return Err(Refusal::new(status, words.to_owned()));
        }
        counts.inspect(|counts| counts.pass());
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if name == "drop" {
                for name in String::from_utf8_lossy(value).split(',') {
                    request.remove(&name.trim().to_ascii_lowercase());
                }
            } else if let Some(name) = name.strip_prefix("pass-")
                && !name.starts_with("x-baton-")
                && !matches!(name, "" | "host" | "connection" | "content-length" | "transfer-encoding")
            {
                request.set(name, value.to_vec());
            }
        }
        self.passed |= 1 << at;
        Ok(())
    }

    /// The largest body that is kept for another attempt, bytes; `None` if there is none.
    #[must_use]
    pub fn keeps(&self) -> Option<u64> {
        self.retries().map(|again| again.body_max)
    }

    /// How long one attempt may take.
    #[must_use]
    pub fn per_attempt(&self) -> Option<Duration> {
        self.retries()?.per_attempt
    }

    /// Whether a call that failed is made again.
    #[must_use]
    pub fn again(&self, attempt: Attempt, failed: Failed) -> bool {
        self.retries().is_some_and(|again| again.decide(attempt, failed))
    }

    fn retries(&self) -> Option<&crate::retries::Again> {
        match &self.chain.slots.get(self.retry?)?.step {
            Step::Retry(again) => Some(again),
            _ => None,
        }
    }

    /// Whether a handler changes answers.
    #[must_use]
    pub fn changes_answers(&self) -> bool {
        self.chain.slots.iter().enumerate().any(|(at, slot)| {
            self.has_passed(at)
                && matches!(&slot.step, Step::Headers { response, .. } if !response.is_empty())
        })
    }

    /// The head of an answer with what handlers change of it, the last one first.
    #[must_use]
    pub fn change(&self, head: &[u8]) -> Vec<u8> {
        let mut head = head.to_vec();
        for (at, slot) in self.chain.slots.iter().enumerate().rev().filter(|(at, _)| self.has_passed(*at)) {
            let Step::Headers { fixed, response, .. } = &slot.step else { continue };
            let own = self.held.iter().find_map(|(held, what)| match what {
                Held::Changes(changes) if *held == at => Some(changes),
                _ => None,
            });
            if let Some(changes) = own.or(fixed.as_ref()).filter(|_| !response.is_empty()) {
                head = changes.on_answer(&head);
            }
        }
        head
    }

    /// The request has its answer: handlers that it passed hear of it, the last one first.
    pub fn end(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        self.is_over = true;
        let now = self.chain.around.now();
        let duration_ns = now.ns.saturating_sub(self.began.ns);
        let (method, path) = self.asked.split_at_checked(self.method_len).unwrap_or_default();
        for (_, slot) in self.chain.slots.iter().enumerate().rev().filter(|(at, _)| self.has_passed(*at)) {
            match &slot.step {
                Step::Metrics(outcomes) => outcomes.count(&outcome, self.bytes_in, duration_ns),
                Step::Log(_) => self.chain.around.line(&Line {
                    function: &self.chain.function,
                    method,
                    path,
                    status: outcome.status,
                    duration_ns,
                    bytes_in: self.bytes_in,
                    bytes_out: outcome.bytes_out,
                    invocation: outcome.invocation,
                    key: self.key.as_deref(),
                }),
                Step::Span => {
                    if let (Some(context), Some(sink)) = (self.span, self.chain.around.sink()) {
                        sink.end(SpanEnd {
                            context,
                            app: self.chain.around.app(),
                            function: &self.chain.function,
                            method,
                            path,
                            status: outcome.status,
                            start_unix_ns: (now.unix_s.saturating_mul(1_000_000_000))
                                .saturating_sub(duration_ns),
                            duration_ns,
                            invocation: outcome.invocation,
                        });
                    }
                }
                _ => {}
            }
        }
        for (at, held) in self.held.drain(..) {
            match (self.chain.slots.get(at).map(|slot| &slot.step), held) {
                (Some(Step::Concurrency(limit)), Held::Place(key)) => limit.borrow_mut().leave(key),
                (Some(Step::Breaker(circuit)), Held::Pass(pass)) => {
                    circuit.borrow_mut().tell(pass, outcome.has_failed, now);
                }
                _ => {}
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_over {
            self.close(Outcome { status: 499, has_failed: None, bytes_out: 0, invocation: 0 });
        }
    }
}

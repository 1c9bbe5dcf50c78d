//! What is kept of a request between its head and its answer.

use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::answer::Outcome;
use crate::chain::{Chain, Late, Slot, Step};
use crate::edits::Prepared;
use crate::limits::Pass;
use crate::request::Request;
use crate::retries::{Attempt, Failed};
use crate::span::{SpanEnd, Trace};
use crate::verdict::Refusal;

/// Bytes of a method and a path that need no memory of their own.
const ASKED_INLINE: usize = 64;

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
    /// When its head came, nanoseconds.
    pub(crate) began_ns: u64,
    /// Handlers that are for it, and those of them that let it pass, a bit each.
    pub(crate) applies: u64,
    pub(crate) passed: u64,
    pub(crate) held: Vec<(usize, Held)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<usize>,
    pub(crate) to: Option<String>,
    pub(crate) span: Option<(Trace, u64)>,
    pub(crate) key: Option<String>,
    pub(crate) is_timed: bool,
    pub(crate) traced: Option<(u128, u64)>,
    /// Method and path, one behind the other, where someone wants them.
    asked: SmallVec<[u8; ASKED_INLINE]>,
    method_len: usize,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// The invocation, 0 until one begins.
    pub invocation: u64,
    /// Of several attempts, the invocation that answered; 0 until one does.
    pub answered: u64,
    /// What its policies took so far, nanoseconds, where someone wants to know.
    pub took_ns: Option<u64>,
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
    /// The trace that it is part of, and the request's own span in it, if its spans are recorded.
    pub traced: Option<(u128, u64)>,
    /// What the handler's `key` stands for.
    pub key: Option<&'a str>,
}

impl Ticket {
    pub(crate) fn new(chain: &Rc<Chain>, began_ns: u64, applies: u64) -> Self {
        Self {
            chain: Rc::clone(chain),
            began_ns,
            applies,
            passed: 0,
            held: Vec::new(),
            timeout: None,
            retry: None,
            to: None,
            span: None,
            key: None,
            is_timed: false,
            traced: None,
            asked: SmallVec::new(),
            method_len: 0,
            bytes_in: 0,
            invocation: 0,
            answered: 0,
            took_ns: None,
            is_over: false,
        }
    }

    pub(crate) fn keep_line(&mut self, request: &Request<'_>) {
        if self.asked.is_empty() {
            self.asked.extend_from_slice(request.method.as_bytes());
            self.asked.extend_from_slice(request.path.as_bytes());
            self.method_len = request.method.len();
        }
    }

    /// The function has no longer than this.
    pub fn shorten(&mut self, after: Duration) {
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

    /// Whether more is to be done than to change its answer and to tell of it: late handlers, or another attempt.
    #[must_use]
    pub fn is_involved(&self) -> bool {
        self.retry.is_some() || self.chain.has_late(self)
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
        let counts = self.chain.slot(at).map(|slot| &slot.counts);
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
                request.set(name, value);
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
        match &self.chain.slot(self.retry?)?.step {
            Step::Retry(again) => Some(again),
            _ => None,
        }
    }

    /// Has handlers change the head of an answer, the last one first.
    pub fn change(&self, head: &mut Vec<u8>) {
        for at in backwards(self.passed & self.chain.edits) {
            let Some(Slot { step: Step::Headers { fixed, response, .. }, .. }) = self.chain.slot(at) else {
                continue;
            };
            let own = self.held.iter().find_map(|(held, what)| match what {
                Held::Changes(changes) if *held == at => Some(changes),
                _ => None,
            });
            if let Some(prepared) = own.or(fixed.as_ref()) {
                response.on_answer(head, prepared);
            }
        }
    }

    /// The request has its answer: handlers that it passed hear of it, the last one first.
    pub fn end(mut self: Box<Self>, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        self.is_over = true;
        if self.passed & self.chain.hears == 0 {
            return;
        }
        let now_ns = self.chain.around.ns();
        let duration_ns = now_ns.saturating_sub(self.began_ns);
        let around = &self.chain.around;
        let function = &self.chain.function;
        let asked = std::str::from_utf8(&self.asked).unwrap_or_default();
        let (method, path) = asked.split_at_checked(self.method_len).unwrap_or_default();
        for at in backwards(self.passed & self.chain.hears) {
            match self.chain.slot(at).map(|slot| &slot.step) {
                Some(Step::Metrics(outcomes)) => outcomes.count(&outcome, self.bytes_in, duration_ns),
                Some(Step::Log(_)) => around.line(&Line {
                    function,
                    method,
                    path,
                    status: outcome.status,
                    duration_ns,
                    bytes_in: self.bytes_in,
                    bytes_out: outcome.bytes_out,
                    invocation: if self.answered == 0 { self.invocation } else { self.answered },
                    traced: self.traced,
                    key: self.key.as_deref(),
                }),
                Some(Step::Span) => {
                    if let Some((trace, span)) = self.span {
                        around.span(&SpanEnd {
                            trace,
                            span,
                            function,
                            method,
                            path,
                            status: outcome.status,
                            duration_ns,
                            invocation: self.invocation,
                        });
                    }
                }
                _ => {}
            }
        }
        for (at, held) in self.held.drain(..) {
            match (self.chain.slot(at).map(|slot| &slot.step), held) {
                (Some(Step::Concurrency(limit)), Held::Place(key)) => limit.borrow_mut().leave(key),
                (Some(Step::Breaker(circuit)), Held::Pass(pass)) => {
                    circuit.borrow_mut().tell(pass, outcome.has_failed, now_ns);
                }
                _ => {}
            }
        }
    }
}

/// The places of the bits that are set, the highest first.
fn backwards(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = bits.checked_ilog2()?;
        bits &= !(1 << at);
        Some(at as usize)
    })
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_over {
            self.close(Outcome { status: 499, has_failed: None, bytes_out: 0 });
        }
    }
}

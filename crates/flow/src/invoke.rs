//! One invocation: its payload into the pool, its call to a replica, its answer.

mod account;
mod body;
mod waiting;

use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_abi::descriptor::HopCost;
use baton_abi::head::{Field, record_prefix, records};
use baton_abi::{Descriptor, Flags, HeadExtent, Kind};
use baton_catalog::PoolRights;
use baton_policy::Ticket;
use baton_pool::pool::NodeBuffer;

pub(crate) use self::account::{Account, Closed};
pub use self::body::Body;
pub(crate) use self::waiting::Waiting;
use crate::app::{App, Reserved};
use crate::elsewhere::{self, Errand};
use crate::error::InvokeError;
use crate::landing::Landing;
use crate::policy::ClientFacts;
use crate::replica::Phase;
use crate::slots::RawReply;
use crate::stream::{Feed, Offer, Open, Parts, Stream};
use crate::traces::OpenSpan;
use crate::watch::Wish;

/// Bytes that a descriptor holds itself.
const INLINE_BYTES: u64 = 8;

/// Method, path, headers: what stands before the body.
#[derive(Debug, Default)]
pub struct Head {
    pub(crate) bytes: Vec<u8>,
    /// Who sent it.
    pub(crate) client: ClientFacts,
}

impl Head {
    /// An empty head.
    #[must_use]
    pub fn new() -> Head {
        Head::default()
    }

    /// An empty head with room for so many bytes.
    #[must_use]
    pub fn with_room(bytes: usize) -> Head {
        Head { bytes: Vec::with_capacity(bytes), ..Head::default() }
    }

    /// Says who sent it. Policies go by this, and by nothing that the client itself says.
    pub fn sent_by(&mut self, client: ClientFacts) {
        self.client = client;
    }

    /// Adds one record. Names of headers are in lower case.
    ///
    /// # Errors
    /// [`InvokeError::HeadTooLarge`].
    pub fn add(&mut self, field: Field, name: &str, value: &[u8]) -> Result<(), InvokeError> {
        let prefix = record_prefix(self.bytes.len(), field, name.as_bytes(), value)
            .map_err(|_| InvokeError::HeadTooLarge)?;
        for part in [&prefix, name.as_bytes(), value] {
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }
}

/// A request whose body is on its way into the pool. Dropping it gives everything back.
pub struct Upload {
    pub(crate) app: Rc<App>,
    pub(crate) function: usize,
    pub(crate) landing: Landing,
    started: Instant,
    origin: Origin,
    pub(crate) wish: Wish,
    /// How long the function has, where policies say less than it says itself.
    pub(crate) within: Option<Duration>,
    /// What policies keep of it until it is answered.
    pub(crate) ticket: Option<Box<Ticket>>,
    /// Its invocation, where policies wanted to know before it begins; 0 for the next one.
    pub(crate) number: u64,
    /// Where its answer may be a stream.
    pub(crate) stream: Option<Open>,
}

/// Who wants an invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// The gateway or the admin API.
    Here,
    /// A function or the gateway of another node.
    Node {
        /// The operation number.
        operation: u16,
        /// As the other node counts.
        invocation: u64,
        /// Whether it wants a receipt.
        is_recorded: bool,
        /// What is left of its time.
        timeout: Duration,
    },
}

impl Upload {
    pub(crate) fn begin(
        app: &Rc<App>,
        function: usize,
        head: &Head,
        body_len: Option<u64>,
        wish: Wish,
    ) -> Result<Upload, InvokeError> {
        let chain = app.functions.get(function).and_then(|state| state.chain.borrow().clone());
        if let Some(chain) = chain {
            return crate::policy::begin(app, function, &chain, (head, body_len), wish);
        }
        let mut upload = Upload::plain(app, function, head, body_len)?;
        upload.wish = wish;
        Ok(upload)
    }

    /// A request that passes no policies.
    pub(crate) fn plain(
        app: &Rc<App>,
        function: usize,
        head: &Head,
        body_len: Option<u64>,
    ) -> Result<Upload, InvokeError> {
        Ok(Upload::landed(app, function, Landing::begin(app, head, body_len)?, Origin::Here))
    }

    /// As [`Upload::begin`], for a client that could do with a stream, where the function can.
    pub(crate) fn begin_streamed(
        app: &Rc<App>,
        function: usize,
        mut head: Head,
        body_len: Option<u64>,
        (offer, wish): (Offer, Wish),
    ) -> Result<Upload, InvokeError> {
        let can = app.functions.get(function).is_some_and(|state| state.spec.stream);
        if !can || !app.is_here(function) {
            return Upload::begin(app, function, &head, body_len, wish);
        }
        head.add(Field::Stream, "", &[offer.bits()])?;
        // What comes by a feed comes not with the head.
        let body_len = if offer.body { Some(0) } else { body_len };
        let mut upload = Upload::begin(app, function, &head, body_len, wish)?;
        // A policy may have led it to another function.
        let takes_it = app.functions.get(upload.function).is_some_and(|state| state.spec.stream);
        if !takes_it || !app.is_here(upload.function) {
            let message =
                format!("a policy leads to {}, which takes no streams", app.function_name(upload.function));
            return Err(InvokeError::Function { status: 501, message });
        }
        upload.stream = Stream::open(app, upload.function, offer);
        Ok(upload)
    }

    /// The way for the client's side, where that does not come with the head: nothing is to be written then.
    #[must_use]
    pub fn feed(&self) -> Option<Feed> {
        self.stream.as_ref().filter(|stream| stream.is_fed()).map(|stream| Feed::new(stream))
    }

    /// A request whose payload is in the pool already.
    pub(crate) fn landed(app: &Rc<App>, function: usize, landing: Landing, origin: Origin) -> Upload {
        Upload::landed_since(Instant::now(), app, function, landing, origin)
    }

    /// As [`Upload::landed`], of a request that came at `started`.
    pub(crate) fn landed_since(
        started: Instant,
        app: &Rc<App>,
        function: usize,
        landing: Landing,
        origin: Origin,
    ) -> Upload {
        app.uploads.set(app.uploads.get() + 1);
        Upload {
            app: Rc::clone(app),
            function,
            landing,
            started,
            origin,
            wish: Wish::default(),
            within: None,
            ticket: None,
            number: 0,
            stream: None,
        }
    }

    /// Appends to the body.
    ///
    /// # Errors
    /// [`InvokeError::PoolFull`] and [`InvokeError::TooLarge`] when a body of undeclared length outgrows the pool.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        self.landing.write(bytes)
    }

    /// The body is complete: calls the function.
    ///
    /// # Errors
    /// Every [`InvokeError`]. Dropping the future cancels the call.
    pub async fn finish(mut self) -> Result<Reply, InvokeError> {
        let mut ticket = self.ticket.take();
        if let Some(ticket) = ticket.take_if(|ticket| ticket.is_involved()) {
            // Apart, so that most do not carry the room for it about.
            return Box::pin(crate::policy::finish(self, ticket)).await;
        }
        let measured = ticket.as_mut().and_then(|ticket| crate::policy::prepare(&mut self, ticket));
        let result = self.run().await;
        match ticket {
            None => result,
            Some(ticket) => crate::policy::conclude(measured, ticket, result),
        }
    }

    /// Calls the function, past all policies.
    pub(crate) async fn run(self) -> Result<Reply, InvokeError> {
        let app = Rc::clone(&self.app);
        let function = self.function;
        let (started, origin) = (self.started, self.origin);
        let (invocation, record) = match self.origin {
            // Policies have asked already whether it gets a receipt.
            Origin::Here if self.number != 0 => (self.number, self.wish.receipt),
            Origin::Here => (app.node.next_invocation(), app.node.watch.receipt_due() || self.wish.receipt),
            Origin::Node { invocation, is_recorded, .. } => (invocation, is_recorded),
        };
        app.node.totals.borrow_mut().invocations += 1;
        if record {
            let name = app.function_name(function).to_owned();
            app.node.receipts.borrow_mut().begin(invocation, &app.name, &name);
        }
        let span = self
            .wish
            .trace
            .map(|traced| OpenSpan::begin(&app, invocation, traced, function, started.elapsed()));
        let is_told = record || span.is_some();
        let (bytes_in, is_own) = (self.landing.body_len(), matches!(origin, Origin::Here));
        let account = Account { app, function, started, invocation, record, span, bytes_in, is_own };
        let mut account = Some(account);
        let result = self.call(invocation, is_told, &mut account).await;
        let status = match &result {
            Ok(reply) => reply.status,
            Err(InvokeError::Function { status, .. }) => *status,
            Err(_) => 500,
        };
        // A stream closes it at its end.
        if let Some(account) = account {
            account.close(status, &Closed::of(&result));
        }
        result
    }

    async fn call(
        mut self,
        invocation: u64,
        record: bool,
        account: &mut Option<Account>,
    ) -> Result<Reply, InvokeError> {
        let app = Rc::clone(&self.app);
        if app.node.draining.get() {
            return Err(InvokeError::Draining);
        }
        let state = app.functions.get(self.function).ok_or(InvokeError::Unknown)?;
        // The function's time starts when its payload is complete: a slow client does not use it up.
        let stream = self.stream.take();
        let timeout = match (self.origin, &stream) {
            (Origin::Here, None) => self.within.unwrap_or_else(|| state.spec.timeout.duration()),
            (Origin::Here, Some(stream)) => stream.first_byte(),
            (Origin::Node { timeout, .. }, _) => timeout,
        };
        // Streams do not cross nodes.
        if matches!(self.origin, Origin::Here)
            && stream.is_none()
            && elsewhere::is_better(&app, self.function)
        {
            return Box::pin(self.call_elsewhere(invocation, record, timeout)).await;
        }
        let deadline_ns = match &stream {
            None => deadline_ns(timeout),
            Some(stream) => stream.left().map_or(0, deadline_ns),
        };
        let reserved = app.reserve(self.function, Instant::now() + timeout).await?;
        app.node.busy.notify_one();
        let Some(buffer) = self.landing.take() else { return Err(InvokeError::PoolFull) };
        let Reserved { replica, tag, cold } = reserved;
        // From here on the slot at the replica is this future's to abandon.
        let waiting = Waiting { app: Rc::clone(&app), replica: Rc::clone(&replica), tag, done: false, cold };
        if replica.phase.get() == Phase::Dead {
            // It died after it gave the place: its buffers were taken back already, this one stays here.
            app.release(buffer.handle);
            return waiting.await.and_then(|raw| Reply::new(app, &raw, (invocation, replica.function)));
        }
        if state.spec.pool == PoolRights::None {
            // It does not see the pool: a few bytes go in the descriptor, as functions send them to each other.
            let inline = self.landing.inline(&buffer);
            app.release(buffer.handle);
            let Some(body) = inline else { return Err(InvokeError::TooLarge { limit: INLINE_BYTES }) };
            let flags = if record { Flags::RECORD.with(Flags::INLINE) } else { Flags::INLINE };
            let plain = self.descriptor(&buffer, tag, invocation, record);
            let descriptor = Descriptor { deadline_ns, flags, body, head: HeadExtent::EMPTY, ..plain };
            // A link that is not read ends its replica, and with it this call.
            replica.push(descriptor.to_words());
            let raw = waiting.await?;
            return Reply::new(app, &raw, (invocation, replica.function));
        }
        if let Some(stream) = &stream {
            stream.attach(&replica, tag, invocation);
        }
        let sent = app.pool.borrow_mut().send(&buffer, self.landing.whole(), replica.holder, invocation);
        if sent.is_err() {
            app.release(buffer.handle);
            replica.condemn("the app's capability table was overwritten");
            return Err(InvokeError::BadReply { what: "its app overwrote the capability table" });
        }
        let descriptor = Descriptor { deadline_ns, ..self.descriptor(&buffer, tag, invocation, record) };
        if !replica.push(descriptor.to_words()) && app.pool.borrow_mut().unsend(&buffer, replica.holder) {
            app.release(buffer.handle);
        }
        if let Some(stream) = stream {
            return Box::pin(stream.answered(waiting, (invocation, replica.function), account)).await;
        }
        let raw = waiting.await?;
        Reply::new(app, &raw, (invocation, replica.function))
    }

    async fn call_elsewhere(
        self,
        invocation: u64,
        is_recorded: bool,
        timeout: Duration,
    ) -> Result<Reply, InvokeError> {
        let (app, function, began) = (Rc::clone(&self.app), self.function, Instant::now());
        let (head, body) = self.into_parts();
        let errand = Errand {
            function,
            operation: 0,
            invocation,
            is_recorded,
            deadline: began + timeout,
            head,
            body: Rc::new(body),
        };
        let outcome = elsewhere::call(&app, &errand).await;
        if is_recorded {
            let caller = "gateway".to_owned();
            elsewhere::record(&app, &errand, (caller, HopCost::default()), &outcome, began);
        }
        let not_begun = matches!(outcome, Err(InvokeError::NoNode { .. } | InvokeError::QueueFull))
            && app.is_here(function);
        if not_begun {
            // Nobody else took it: it waits here.
            let landing = Landing::again(&app, &[&errand.head], &errand.body)?;
            let timeout = errand.deadline.saturating_duration_since(Instant::now());
            let origin = Origin::Node { operation: 0, invocation, is_recorded, timeout };
            let again = Upload::landed(&app, function, landing, origin);
            return Box::pin(again.call(invocation, is_recorded, &mut None)).await;
        }
        let mut landed = outcome?;
        let body = landed.landing.take_body();
        Ok(Reply { status: landed.status, head: landed.head, body, invocation, parts: None })
    }

    /// Its head, and its body by itself.
    fn into_parts(mut self) -> (Vec<u8>, Body) {
        (self.landing.head(), self.landing.take_body())
    }

    fn descriptor(&self, buffer: &NodeBuffer, tag: u32, invocation: u64, record: bool) -> Descriptor {
        let (body, head) = self.landing.extents(buffer);
        let flags = if record { Flags::RECORD } else { Flags::MOVE };
        let code = match self.origin {
            Origin::Here => 0,
            Origin::Node { operation, .. } => operation,
        };
        Descriptor { flags, code, tag, invocation, body, head, ..Descriptor::new(Kind::Request) }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.app.uploads.set(self.app.uploads.get().saturating_sub(1));
    }
}

/// `CLOCK_MONOTONIC` nanoseconds after `timeout`, as replicas read it.
fn deadline_ns(timeout: Duration) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let now = Duration::try_from(now).unwrap_or_default();
    u64::try_from((now + timeout).as_nanos()).unwrap_or(u64::MAX)
}

/// What a function answered.
pub struct Reply {
    status: u16,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
    invocation: u64,
    parts: Option<Box<Parts>>,
}

impl Reply {
    pub(crate) fn new(
        app: Rc<App>,
        raw: &RawReply,
        (invocation, function): (u64, usize),
    ) -> Result<Reply, InvokeError> {
        let (head, body) = Body::with_head(&app, raw);
        if raw.is_error {
            let message = body.text();
            if raw.has_ended {
                let function = app.function_name(function).to_owned();
                return Err(InvokeError::ReplicaDied { function, how: message });
            }
            return Err(InvokeError::Function { status: raw.status, message });
        }
        Ok(Reply { status: raw.status, head, body, invocation, parts: None })
    }

    /// One whose body comes in parts.
    pub(crate) fn begun(
        (status, invocation): (u16, u64),
        head: Vec<u8>,
        body: Body,
        parts: Box<Parts>,
    ) -> Reply {
        Reply { status, head, body, invocation, parts: Some(parts) }
    }

    /// The parts in which its body comes, if it does so; there is no other body then.
    #[must_use]
    pub fn take_parts(&mut self) -> Option<Box<Parts>> {
        self.parts.take()
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers, as the function gave them.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        records(&self.head)
            .map_while(Result::ok)
            .filter(|record| record.field == Field::Header)
            .map(|record| (record.name, record.value))
    }

    /// The headers as they are encoded.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The invocation's number.
    #[must_use]
    pub fn invocation(&self) -> u64 {
        self.invocation
    }

    /// The body, where it lies.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.body
    }
}

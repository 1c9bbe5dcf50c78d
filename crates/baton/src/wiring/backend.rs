//! The gateway's seam, filled by the flow.

use std::rc::Rc;
use std::task::{Context, Poll};

use baton_catalog::RouteTable;
use baton_flow::{
    Body, Field, Flow, Head, InvokeError, Offer, Over, PartKind, RECEIPT_HEADER, Target, TraceContext, Wish,
};
use baton_gateway::{Backend, Feed, Parts, Reply, RequestHead, Upload};
use bytes::{Buf, Bytes};

use super::cloudevents::{self, Door, Gather};

/// Bytes that hold most heads.
const HEAD_BYTES: usize = 512;

/// The flow, as the gateway calls it.
#[derive(Clone)]
pub(super) struct FlowBackend {
    flow: Flow,
    door: Door,
}

impl FlowBackend {
    pub(super) fn new(flow: Flow, door: Door) -> Self {
        Self { flow, door }
    }
}

impl Backend for FlowBackend {
    type Target = Target;
    type Upload = FlowUpload;

    fn routes(&self) -> Rc<RouteTable<Target>> {
        self.flow.routes()
    }

    fn body_limit(&self, target: &Target) -> u64 {
        self.flow.body_limit(target)
    }

    fn streams(&self, target: &Target) -> bool {
        self.flow.streams(target)
    }

    fn begin(
        &self,
        target: &Target,
        request: &RequestHead<'_>,
        body_len: Option<u64>,
    ) -> Result<FlowUpload, InvokeError> {
        let mut head = Head::with_room(HEAD_BYTES);
        head.add(Field::Method, "", request.method.as_bytes())?;
        head.add(Field::Path, "", request.path.as_bytes())?;
        if let Some(query) = request.query {
            head.add(Field::Query, "", query.as_bytes())?;
        }
        for (name, value) in request.params {
            head.add(Field::Param, name, value.as_bytes())?;
        }
        let sampling = self.flow.sampling();
        let given = || request.is_traced.then(|| TraceContext::parse(request.traceparent)).flatten();
        let trace = sampling.traces_ppm.and_then(|_| self.flow.trace(given()));
        let mut wish = Wish { receipt: false, trace };
        let traceparent = trace.map(|traced| traced.context.text());
        for (name, value) in request.headers() {
            if name == RECEIPT_HEADER {
                wish.receipt = sampling.on_demand && value == b"1";
                continue;
            }
            let value = match &traceparent {
                Some(own) if name == "traceparent" => own.as_bytes(),
                _ => value,
            };
            head.add(Field::Header, name, value)?;
        }
        head.sent_by(request.client.clone());
        if let Some(identity) = &request.client.identity {
            head.add(Field::Identity, "", identity.as_bytes())?;
        }
        if self.flow.takes_events(target)
            && let Some(listeners) = self.flow.listeners(target, &head)
        {
            return cloudevents::begin((&self.flow, &self.door), listeners, request, (head, body_len, wish));
        }
        if !self.flow.streams(target) {
            return self.flow.begin(target, &head, body_len, wish).map(FlowUpload::Flow);
        }
        let offer = Offer { body: body_len != Some(0), socket: request.socket };
        self.flow.begin_streamed(target, head, body_len, (offer, wish)).map(FlowUpload::Flow)
    }
}

/// A request on its way into the pool, or, where its body is made of events, gathered before.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request is the first, and a box would cost it an allocation"
)]
pub(super) enum FlowUpload {
    Flow(baton_flow::Upload),
    Events(Box<Gather>),
}

impl Upload for FlowUpload {
    type Reply = FlowReply;
    type Feed = FlowFeed;

    fn feed(&mut self) -> Option<FlowFeed> {
        match self {
            Self::Flow(upload) => upload.feed().map(FlowFeed),
            Self::Events(_) => None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        match self {
            Self::Flow(upload) => upload.write(bytes),
            Self::Events(gather) => gather.write(bytes),
        }
    }

    async fn finish(self) -> Result<FlowReply, InvokeError> {
        match self {
            Self::Flow(upload) => upload.finish().await.map(FlowReply::Flow),
            Self::Events(gather) => gather.finish().await,
        }
    }
}

/// The client's side, in parts.
pub(super) struct FlowFeed(baton_flow::Feed);

impl Feed for FlowFeed {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        self.0.poll_room(cx)
    }

    fn put(&mut self, kind: PartKind, bytes: &[u8]) -> Result<(), InvokeError> {
        self.0.put(kind, bytes)
    }

    fn end(self, close: &[u8]) {
        self.0.end(close);
    }
}

/// An answer's parts in the pool.
pub(super) struct FlowParts(Box<baton_flow::Parts>);

impl Parts for FlowParts {
    type Body = FlowBody;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(PartKind, FlowBody), InvokeError>>> {
        self.0.poll_next(cx).map_ok(|part| (part.kind, FlowBody::Pool(part.body)))
    }
}

/// A body in the pool, or one that the node wrote itself.
pub(super) enum FlowBody {
    Pool(Body),
    Own(Bytes),
}

impl Buf for FlowBody {
    fn remaining(&self) -> usize {
        match self {
            Self::Pool(body) => body.remaining(),
            Self::Own(bytes) => bytes.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Pool(body) => body.chunk(),
            Self::Own(bytes) => bytes.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Pool(body) => body.advance(count),
            Self::Own(bytes) => bytes.advance(count),
        }
    }
}

/// An answer: a function's, its body in the pool, or one that is made of such.
pub(super) enum FlowReply {
    Flow(baton_flow::Reply),
    Made { status: u16, headers: Vec<(String, Vec<u8>)>, body: Bytes, invocation: u64 },
}

impl FlowReply {
    pub(super) fn status_code(&self) -> u16 {
        match self {
            Self::Flow(reply) => reply.status(),
            Self::Made { status, .. } => *status,
        }
    }
}

impl Reply for FlowReply {
    type Body = FlowBody;
    type Parts = FlowParts;

    fn status(&self) -> u16 {
        self.status_code()
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let (reply, made) = match self {
            Self::Flow(reply) => (Some(reply.headers()), None),
            Self::Made { headers, .. } => (None, Some(headers)),
        };
        let made = made.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_slice()));
        reply.into_iter().flatten().chain(made)
    }

    fn take_parts(&mut self) -> Option<FlowParts> {
        match self {
            Self::Flow(reply) => reply.take_parts().map(FlowParts),
            Self::Made { .. } => None,
        }
    }

    fn invocation(&self) -> u64 {
        match self {
            Self::Flow(reply) => reply.invocation(),
            Self::Made { invocation, .. } => *invocation,
        }
    }

    fn into_body(self) -> FlowBody {
        match self {
            Self::Flow(reply) => FlowBody::Pool(reply.into_body()),
            Self::Made { body, .. } => FlowBody::Own(body),
        }
    }
}

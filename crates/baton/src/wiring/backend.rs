//! The gateway's seam, filled by the flow.

use std::rc::Rc;
use std::task::{Context, Poll};

use baton_catalog::RouteTable;
use baton_flow::{
    Body, Field, Flow, Head, InvokeError, Offer, Over, PartKind, RECEIPT_HEADER, Target, TraceContext, Wish,
};
use baton_gateway::{Backend, Feed, Parts, Reply, RequestHead, Upload};

/// The flow, as the gateway calls it.
#[derive(Clone)]
pub(super) struct FlowBackend {
    flow: Flow,
}

impl FlowBackend {
    pub(super) fn new(flow: Flow) -> Self {
        Self { flow }
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
        let mut head = Head::new();
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
        if !self.flow.streams(target) {
            return self.flow.begin(target, &head, body_len, wish).map(FlowUpload);
        }
        let offer = Offer { body: body_len != Some(0), socket: request.socket };
        self.flow.begin_streamed(target, head, body_len, (offer, wish)).map(FlowUpload)
    }
}

/// A request on its way into the pool.
pub(super) struct FlowUpload(baton_flow::Upload);

impl Upload for FlowUpload {
    type Reply = FlowReply;
    type Feed = FlowFeed;

    fn feed(&mut self) -> Option<FlowFeed> {
        self.0.feed().map(FlowFeed)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        self.0.write(bytes)
    }

    async fn finish(self) -> Result<FlowReply, InvokeError> {
        self.0.finish().await.map(FlowReply)
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
    type Body = Body;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(PartKind, Body), InvokeError>>> {
        self.0.poll_next(cx).map_ok(|part| (part.kind, part.body))
    }
}

/// An answer, its body in the pool.
pub(super) struct FlowReply(baton_flow::Reply);

impl Reply for FlowReply {
    type Body = Body;
    type Parts = FlowParts;

    fn status(&self) -> u16 {
        self.0.status()
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.headers()
    }

    fn take_parts(&mut self) -> Option<FlowParts> {
        self.0.take_parts().map(FlowParts)
    }

    fn invocation(&self) -> u64 {
        self.0.invocation()
    }

    fn into_body(self) -> Body {
        self.0.into_body()
    }
}

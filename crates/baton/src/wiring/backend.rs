//! The gateway's seam, filled by the flow.

use std::rc::Rc;

use baton_catalog::RouteTable;
use baton_flow::{Body, Field, Flow, Head, InvokeError, RECEIPT_HEADER, Target, TraceContext, Wish};
use baton_gateway::{Backend, Reply, RequestHead, Upload};

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
            if sampling.on_demand && name == RECEIPT_HEADER {
                wish.receipt = value == b"1";
                continue;
            }
            let value = match &traceparent {
                Some(own) if name == "traceparent" => own.as_bytes(),
                _ => value,
            };
            head.add(Field::Header, name, value)?;
        }
        self.flow.begin(target, &head, body_len, wish).map(FlowUpload)
    }
}

/// A request on its way into the pool.
pub(super) struct FlowUpload(baton_flow::Upload);

impl Upload for FlowUpload {
    type Reply = FlowReply;

    fn write(&mut self, bytes: &[u8]) -> Result<(), InvokeError> {
        self.0.write(bytes)
    }

    async fn finish(self) -> Result<FlowReply, InvokeError> {
        self.0.finish().await.map(FlowReply)
    }
}

/// An answer, its body in the pool.
pub(super) struct FlowReply(baton_flow::Reply);

impl Reply for FlowReply {
    type Body = Body;

    fn status(&self) -> u16 {
        self.0.status()
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.headers()
    }

    fn invocation(&self) -> u64 {
        self.0.invocation()
    }

    fn into_body(self) -> Body {
        self.0.into_body()
    }
}

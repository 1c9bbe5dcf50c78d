//! Baton's own interfaces for components (`sdk/wit/data.wit`): payloads as resources.

use baton::{Body, Buffer, Context, Error, Payload, Request, Response, Shared};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use crate::bodies;
use crate::drive::called;
use crate::single::Single;
use crate::state::State;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "baton:data/function",
        imports: { "baton:data/calls": async | trappable, default: trappable },
        exports: { default: async },
        with: { "baton:data/buffer.buffer": super::Held },
    });
}

use bindings::baton::data::buffer::{self, Error as Refusal};
use bindings::baton::data::calls;
use bindings::baton::data::messages::{self, Failure};
use bindings::exports::baton::data::handler;
pub(crate) use bindings::{Function as Handler, FunctionPre as HandlerPre};

/// A payload that a component holds.
#[expect(unreachable_pub, reason = "the bindings export it")]
pub struct Held(Single<Kind>);

enum Kind {
    /// Made here.
    Buffer(Buffer),
    /// Received.
    Body(Body),
    /// Frozen.
    Shared(Shared),
    /// Freezing it failed: nothing is left of it.
    Gone,
}

impl Kind {
    fn bytes(&self) -> Result<&[u8], Refusal> {
        match self {
            Kind::Buffer(buffer) => Ok(buffer),
            Kind::Body(body) => Ok(body),
            Kind::Shared(shared) => shared.bytes().map_err(refusal),
            Kind::Gone => Err(Refusal::Denied("the payload is gone".to_owned())),
        }
    }
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::PoolFull { .. } => Refusal::PoolFull,
        Error::BufferFull { .. } => Refusal::OutOfRange,
        other => Refusal::Denied(other.to_string()),
    }
}

/// What host functions of these interfaces work with.
pub(crate) struct Data<'a> {
    table: &'a mut ResourceTable,
    context: Option<Single<Context>>,
}

struct Here;

impl HasData for Here {
    type Data<'a> = Data<'a>;
}

/// Defines the interfaces.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    fn data(state: &mut State) -> Data<'_> {
        let context = state.outgoing.context().map(Single);
        Data { table: state.table(), context }
    }
    buffer::add_to_linker::<State, Here>(linker, data)?;
    messages::add_to_linker::<State, Here>(linker, data)?;
    calls::add_to_linker::<State, Here>(linker, data)
}

impl Data<'_> {
    fn context(&self) -> Result<&Context, Refusal> {
        let none = || Refusal::Denied("there is no request yet".to_owned());
        self.context.as_ref().map(|context| &context.0).ok_or_else(none)
    }

    fn hold(&mut self, kind: Kind) -> wasmtime::Result<Resource<Held>> {
        Ok(self.table.push(Held(Single(kind)))?)
    }
}

/// Offset and length as a range of a payload.
fn range(offset: u64, len: u64) -> Option<core::ops::Range<usize>> {
    let (from, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
    Some(from..from.checked_add(len)?)
}

impl buffer::Host for Data<'_> {}

impl buffer::HostBuffer for Data<'_> {
    fn alloc(&mut self, len: u64) -> wasmtime::Result<Result<Resource<Held>, Refusal>> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let made = self.context().and_then(|context| context.zeroed(len).map_err(refusal));
        made.map(|buffer| self.hold(Kind::Buffer(buffer))).transpose_inner()
    }

    fn from_bytes(&mut self, bytes: Vec<u8>) -> wasmtime::Result<Result<Resource<Held>, Refusal>> {
        let made = self.context().and_then(|context| context.value(bytes.as_slice()).map_err(refusal));
        made.map(|buffer| self.hold(Kind::Buffer(buffer))).transpose_inner()
    }

    fn length(&mut self, held: Resource<Held>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&held)?.0.bytes().map_or(0, <[u8]>::len) as u64)
    }

    fn read(
        &mut self,
        held: Resource<Held>,
        offset: u64,
        len: u64,
    ) -> wasmtime::Result<Result<Vec<u8>, Refusal>> {
        let bytes = match self.table.get(&held)?.0.bytes() {
            Ok(bytes) => bytes,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let rest = usize::try_from(offset).ok().and_then(|from| bytes.get(from..));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(rest.map(|rest| rest.get(..len).unwrap_or(rest).to_vec()).ok_or(Refusal::OutOfRange))
    }

    fn write(
        &mut self,
        held: Resource<Held>,
        offset: u64,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Refusal>> {
        let space = match &mut self.table.get_mut(&held)?.0.0 {
            Kind::Buffer(buffer) => &mut buffer[..],
            Kind::Body(body) => match body.bytes_mut() {
                Ok(space) => space,
                Err(_) => return Ok(Err(Refusal::ReadOnly)),
            },
            Kind::Shared(_) => return Ok(Err(Refusal::ReadOnly)),
            Kind::Gone => return Ok(Err(Refusal::Denied("the payload is gone".to_owned()))),
        };
        let part = range(offset, bytes.len() as u64).and_then(|range| space.get_mut(range));
        Ok(part.map(|part| part.copy_from_slice(&bytes)).ok_or(Refusal::OutOfRange))
    }

    fn freeze(&mut self, held: Resource<Held>) -> wasmtime::Result<Result<(), Refusal>> {
        let held = self.table.get_mut(&held)?;
        let frozen = match core::mem::replace(&mut held.0.0, Kind::Gone) {
            Kind::Buffer(buffer) => Ok(buffer.freeze()),
            Kind::Body(body) if !body.is_owned() => {
                held.0.0 = Kind::Body(body);
                return Ok(Err(Refusal::ReadOnly));
            }
            Kind::Body(body) => body.into_shared().map_err(refusal),
            Kind::Shared(shared) => Ok(shared),
            Kind::Gone => Err(Refusal::Denied("the payload is gone".to_owned())),
        };
        Ok(frozen.map(|shared| held.0.0 = Kind::Shared(shared)))
    }

    fn slice(
        &mut self,
        held: Resource<Held>,
        offset: u64,
        len: u64,
    ) -> wasmtime::Result<Result<Resource<Held>, Refusal>> {
        let Kind::Shared(shared) = &self.table.get(&held)?.0.0 else { return Ok(Err(Refusal::NotFrozen)) };
        let slice = range(offset, len).and_then(|range| shared.narrow(range).ok());
        slice.ok_or(Refusal::OutOfRange).map(|slice| self.hold(Kind::Shared(slice))).transpose_inner()
    }

    fn drop(&mut self, held: Resource<Held>) -> wasmtime::Result<()> {
        self.table.delete(held)?;
        Ok(())
    }
}

/// Results of a function within results of the engine.
trait TransposeInner<T, E> {
    fn transpose_inner(self) -> wasmtime::Result<Result<T, E>>;
}

impl<T, E> TransposeInner<T, E> for Result<wasmtime::Result<T>, E> {
    fn transpose_inner(self) -> wasmtime::Result<Result<T, E>> {
        match self {
            Ok(value) => value.map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl messages::Host for Data<'_> {}

impl calls::Host for Data<'_> {
    async fn call(
        &mut self,
        function: String,
        request: messages::Request,
    ) -> wasmtime::Result<Result<messages::Response, Failure>> {
        let payload = Single(taken(self.table, request.payload)?);
        let Some(context) = self.context.as_ref().map(|context| Single(context.0.clone())) else {
            return Ok(Err(Failure { status: 500, message: "there is no request yet".to_owned() }));
        };
        let reply = Single(async move {
            // Whole, so that they are captured as what may be sent.
            let (context, payload) = (context, payload);
            let mut call = context.0.call(&function, payload.0);
            if !request.method.is_empty() {
                call = call.method(&request.method);
            }
            let (path, query) = match request.path.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (request.path.as_str(), None),
            };
            if !path.is_empty() {
                call = call.path(path);
            }
            if let Some(query) = query {
                call = call.query(query);
            }
            for (name, value) in &request.headers {
                call = call.header(name, value);
            }
            Single(called(call).await)
        });
        let reply = reply.await;
        match reply.0 {
            Err(error) => Ok(Err(Failure { status: error.status(), message: error.to_string() })),
            Ok(reply) => {
                let headers =
                    reply.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
                let status = reply.status();
                let payload = reply.into_body().ok().map(|body| self.hold(Kind::Body(body))).transpose()?;
                Ok(Ok(messages::Response { status, headers, payload }))
            }
        }
    }
}

/// A payload that leaves the component.
fn taken(table: &mut ResourceTable, held: Option<Resource<Held>>) -> wasmtime::Result<Payload<'static>> {
    let Some(held) = held else { return Ok(Payload::Empty) };
    Ok(match table.delete(held)?.0.0 {
        Kind::Buffer(buffer) => Payload::Buffer(buffer),
        Kind::Body(body) => Payload::Body(body),
        Kind::Shared(shared) => Payload::Shared(shared),
        Kind::Gone => Payload::Empty,
    })
}

/// A request as the component gets it.
pub(crate) fn request(table: &mut ResourceTable, request: Request) -> wasmtime::Result<handler::Request> {
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{query}", request.path());
    let headers = request.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let method = request.method().to_owned();
    let body = request.into_body().ok();
    let payload = body.map(|body| table.push(Held(Single(Kind::Body(body))))).transpose()?;
    Ok(handler::Request { method, path, headers, payload })
}

/// The component's answer as the function's.
pub(crate) fn response(
    table: &mut ResourceTable,
    answer: Result<handler::Response, Failure>,
) -> wasmtime::Result<Result<Response, Error>> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failure { status, message }) => return Ok(Err(Error::new(bodies::status(status), message))),
    };
    let mut response = Response::ok(taken(table, answer.payload)?).status(bodies::status(answer.status));
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    Ok(Ok(response))
}

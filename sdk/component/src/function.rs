//! One component, instantiated, and what it does with a request.

use core::pin::pin;

use baton::{Context, Error, Request, Response};
use baton_wasm::Kind;
use baton_wasm_host::image;
use http::header::{CONTENT_LENGTH, HOST};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, oneshot};
use wasmtime::component::Linker;
use wasmtime::{AsContextMut, Engine, Store};
use wasmtime_wasi::p2::bindings::random::insecure_seed;
use wasmtime_wasi_http::handler::{Prepared, Proxy, ProxyPre};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode as ErrorCode02, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy as Proxy02, ProxyPre as Handler02};
use wasmtime_wasi_http::p3::bindings::ServicePre as Handler03;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode as ErrorCode03;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::bodies::{GatherError, gather, given};
use crate::drive::drive;
use crate::payloads;
use crate::state::{Seed, State};

/// Stack of a component, bytes: what its code may use, and what host functions that it calls may use on top.
const STACK_BYTES: usize = 4 << 20;
const HOST_STACK_BYTES: usize = 512 << 10;
/// The function's name, in the environment.
const NAME_ENV: &str = "BATON_FUNCTION";

/// A component that serves.
pub(crate) struct Function {
    runtime: Runtime,
    /// It does one thing at a time: requests wait for it in the order in which they came.
    instance: Mutex<Instance>,
}

struct Instance {
    store: Store<State>,
    handler: Handler,
}

/// By which interface the component serves.
enum Handler {
    /// `wasi:http/incoming-handler@0.2` or `wasi:http/handler@0.3`.
    Http(Proxy),
    /// `baton:data/handler`.
    Data(payloads::Handler),
}

/// Why a request has no answer of the component's.
enum Failure {
    /// The component trapped: the instance is of no use any more.
    Trap(wasmtime::Error),
    /// It answered with an error, or the answer could not be made.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Failure::Trap(error)
    }
}

impl From<GatherError> for Failure {
    fn from(error: GatherError) -> Self {
        match error {
            GatherError::Component(error) => Failure::Error(ended_by(&error)),
            GatherError::Pool(error) => Failure::Error(error),
        }
    }
}

fn ended_by(error: &dyn core::fmt::Display) -> Error {
    Error::new(502, format!("the component ended its response by an error: {error}"))
}

fn never_answered() -> Error {
    Error::new(502, "the component returned without an answer: it has to call `response-outparam.set`")
}

impl Function {
    /// Instantiates the component of this program's file.
    pub(crate) fn start() -> Result<Function, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| format!("no loop for WASI: {error}"))?;
        let instance =
            runtime.block_on(instantiate()).map_err(|error| format!("the component: {error:#}"))?;
        Ok(Function { runtime, instance: Mutex::new(instance) })
    }

    pub(crate) async fn serve(&self, context: Context, request: Request) -> Result<Response, Error> {
        let mut instance = self.instance.lock().await;
        // A handler that is dropped half-way leaves an instance in the middle of something.
        let mut unfinished = Unfinished { is_over: false };
        instance.store.data_mut().begin(&context);
        let answer = drive(&self.runtime, instance.answer(&context, request)).await;
        if let Err(Failure::Trap(error)) = &answer {
            eprintln!("the component trapped: {error:?}");
            // The cell tells the caller, and puts the snapshot back.
            std::process::abort();
        }
        unfinished.is_over = true;
        instance.store.data_mut().outgoing.end();
        answer.map_err(|failure| match failure {
            Failure::Error(error) => error,
            Failure::Trap(error) => Error::new(502, format!("{error:#}")),
        })
    }
}

/// Ends this copy of the function, unless the component has come to an end with its request.
struct Unfinished {
    is_over: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        eprintln!("a request was given up while the component worked on it: the function begins anew");
        std::process::abort();
    }
}

async fn instantiate() -> wasmtime::Result<Instance> {
    let artifact =
        image::artifact().ok_or_else(|| wasmtime::format_err!("there is none in this program's file"))?;
    let kind = image::kind(artifact);
    let mut config = baton_wasm::settings(kind);
    image::settings(&mut config);
    config.max_wasm_stack(STACK_BYTES).async_stack_size(STACK_BYTES + HOST_STACK_BYTES);
    let engine = Engine::new(&config)?;
    let component = image::component(&engine, artifact)?;
    let linker = linker(&engine, kind)?;
    let pre = linker.instantiate_pre(&component)?;
    let mut store = Store::new(&engine, State::new()?);
    let handler = if let Ok(pre) = payloads::HandlerPre::new(pre.clone()) {
        Handler::Data(pre.instantiate_async(&mut store).await?)
    } else {
        let pre = match Handler03::new(pre.clone()) {
            Ok(pre) => ProxyPre::P3(pre),
            Err(_) => ProxyPre::P2(Handler02::new(pre)?),
        };
        Handler::Http(pre.instantiate_async(&mut store).await?)
    };
    Ok(Instance { store, handler })
}

fn linker(engine: &Engine, kind: Kind) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    payloads::add_to_linker(&mut linker)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if kind == (Kind::Component { is_async: true }) {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    // The library's seed is made once, and would be the same in every copy.
    linker.allow_shadowing(true);
    insecure_seed::add_to_linker::<_, Seed>(&mut linker, |_| Seed)?;
    Ok(linker)
}

/// A request as the component gets it.
fn incoming(request: Request) -> Result<http::Request<WasiBody>, Error> {
    let bad = |what: &str, error: &dyn core::fmt::Display| Error::new(400, format!("{what}: {error}"));
    // Calls between functions need no method.
    let method = match request.method() {
        "" if request.body().is_empty() => "GET",
        "" => "POST",
        method => method,
    };
    let path = if request.path().is_empty() { "/" } else { request.path() };
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    let authority = request.header(HOST.as_str()).map_or_else(own_name, str::to_owned);
    let uri =
        http::Uri::builder().scheme("http").authority(authority).path_and_query(format!("{path}{query}"));
    let uri = uri.build().map_err(|error| bad("the path or host", &error))?;
    let mut message = http::Request::builder().method(method).uri(uri);
    for (name, value) in request.headers().filter(|(name, _)| *name != HOST.as_str()) {
        message = message.header(name, value);
    }
    message.body(given(request.into_body().ok())).map_err(|error| bad("a header", &error))
}

fn own_name() -> String {
    format!("{}{}", std::env::var(NAME_ENV).unwrap_or_default(), crate::outgoing::DOMAIN)
}

/// An answer of the component's as the response of the function.
async fn outgoing(context: &Context, message: http::Response<WasiBody>) -> Result<Response, Failure> {
    let (parts, body) = message.into_parts();
    let expected = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut response = Response::ok(gather(context, body, expected).await?).status(parts.status.as_u16());
    // The length is said by whoever sends the bytes.
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        response = response.header(name.as_str(), value);
    }
    Ok(response)
}

impl Instance {
    async fn answer(&mut self, context: &Context, request: Request) -> Result<Response, Failure> {
        let Instance { store, handler } = self;
        match handler {
            Handler::Data(handler) => {
                let request = payloads::request(store.data_mut().table(), request)?;
                let answer = handler.baton_data_handler().call_handle(&mut *store, &request).await?;
                Ok(payloads::response(store.data_mut().table(), answer)??)
            }
            Handler::Http(Proxy::P2(proxy)) => answer_02(store, proxy, context, incoming(request)?).await,
            Handler::Http(proxy) => answer_03(store, proxy, context, incoming(request)?).await,
        }
    }
}

async fn answer_02(
    store: &mut Store<State>,
    proxy: &Proxy02,
    context: &Context,
    message: http::Request<WasiBody>,
) -> Result<Response, Failure> {
    let (set, mut is_set) = oneshot::channel();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, message)?;
    let outparam = store.data_mut().http().new_response_outparam(set)?;
    let mut handled = pin!(proxy.wasi_http_incoming_handler().call_handle(store, request, outparam));
    let mut is_handled = false;
    let answer = tokio::select! {
        biased;
        done = &mut handled => {
            done?;
            is_handled = true;
            is_set.try_recv().ok()
        }
        answer = &mut is_set => answer.ok(),
    };
    let response = async {
        let answer = answer.ok_or_else(never_answered)?;
        let answer = answer.map_err(|code: ErrorCode02| Failure::Error(ended_by(&code)))?;
        outgoing(context, answer).await
    };
    let mut response = pin!(response);
    loop {
        tokio::select! {
            biased;
            done = &mut handled, if !is_handled => {
                done?;
                is_handled = true;
            }
            response = &mut response => {
                // What the component does behind its answer, be that an error, is a part of the request: given up in the middle,
                // the instance could not be entered again.
                if !is_handled {
                    handled.await?;
                }
                return response;
            }
        }
    }
}

async fn answer_03(
    store: &mut Store<State>,
    proxy: &Proxy,
    context: &Context,
    message: http::Request<WasiBody>,
) -> Result<Response, Failure> {
    let answered = store.run_concurrent(async |accessor| {
        let (set, is_set) = futures_channel::oneshot::channel();
        let prepared = accessor.with(|mut access| {
            Prepared::new(access.as_context_mut(), proxy, message, WasiHttpView::http, set)
        })?;
        let handled = prepared.run(accessor, core::future::pending());
        let response = async {
            match is_set.await {
                Ok(Ok(answer)) => outgoing(context, answer).await,
                Ok(Err(error)) => match error.downcast_ref::<ErrorCode03>() {
                    Some(code) => Err(ended_by(&format!("{code:?}")).into()),
                    None => Err(Failure::Trap(error)),
                },
                Err(_) => Err(never_answered().into()),
            }
        };
        let (handled, response) = tokio::join!(handled, response);
        handled?;
        response
    });
    answered.await?
}

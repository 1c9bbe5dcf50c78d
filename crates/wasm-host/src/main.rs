//! The program of a Wasm function.
//!
//! A function with `isolation = "wasm"` is this program and its module, precompiled, in one ELF file, and runs as a guest of a
//! compartment like any other: behind its memory key, without a way to the kernel, from a snapshot that is taken once its module is
//! instantiated and started. So a module has two walls: the compiler's checks, and the compartment around the engine.
//!
//! ```text
//!  seat  ┌ this program ┬ module ┬ heap … ┬──────── memory of the module ────────┬──── pool (window) ────┐
//!        └ 0                              └ LINEAR_OFFSET                        └ + WINDOW_AT           └ + 4 GiB
//! ```
//! Faults are not this program's business: whatever a module does outside of its memory is a fault of the guest, which fails its
//! call and begins anew from the snapshot.

mod gates;
mod memory;
mod wasi;

use std::process::ExitCode;

use baton_abi::gate::Parcel;
use baton_abi::wasm::{EVENT, MEMORY, PARCEL, REFUSED, START};
use baton_wasm::Kind;
use baton_wasm_host::image;
use wasmtime::{Engine, Instance, Linker, Module, Store, TypedFunc};

use crate::gates::Gates;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// A module that was started.
struct Started {
    store: Store<Gates>,
    parcel: TypedFunc<(), i32>,
    event: Event,
}

/// How the module takes events.
enum Event {
    /// What it answers goes out while it works.
    Plain(TypedFunc<(), ()>),
    /// Its last answer goes out with the next receive; the other function hears of one that was refused.
    Answering(TypedFunc<(), i32>, TypedFunc<i64, ()>),
}

impl Started {
    /// The module takes an event; where the answer lies that it leaves.
    fn take_event(&mut self) -> wasmtime::Result<u64> {
        match &self.event {
            Event::Plain(event) => event.call(&mut self.store, ()).map(|()| 0),
            Event::Answering(event, _) => {
                event.call(&mut self.store, ()).map(|answer| u64::from(answer.cast_unsigned()))
            }
        }
    }

    /// The answer that the module left was refused.
    fn hear(&mut self, errno: i64) -> wasmtime::Result<()> {
        match &self.event {
            Event::Plain(_) => Ok(()),
            Event::Answering(_, refused) => refused.call(&mut self.store, errno),
        }
    }
}

fn serve() -> Result<(), String> {
    let gates =
        Gates::find().ok_or("this program runs in a compartment of a Baton node, and nowhere else")?;
    let mut started = start(gates)?;
    let at = started.parcel.call(&mut started.store, ()).map_err(|error| format!("{PARCEL}: {error:#}"))?;
    let at = u64::from(at.cast_unsigned());
    if at > baton_abi::wasm::WINDOW_AT - size_of::<Parcel>() as u64 || !at.is_multiple_of(64) {
        return Err(format!("{PARCEL} gives {at:#x}, which is no place for a parcel in the module's memory"));
    }
    gates.point_at_kept(at);
    let mut answer = 0;
    loop {
        let got = gates.receive(answer, at);
        answer = match got {
            0.. => started.take_event().map_err(|error| format!("{EVENT}: {error:#}"))?,
            _ if answer == 0 => return Err("the cell gives no events".to_owned()),
            errno => {
                started.hear(errno).map_err(|error| format!("{REFUSED}: {error:#}"))?;
                0
            }
        };
    }
}

fn start(gates: Gates) -> Result<Started, String> {
    let artifact = image::artifact().ok_or("there is no module in this program's file")?;
    let mut config = baton_wasm::settings(Kind::Module);
    memory::bring(&mut config);
    let engine = Engine::new(&config).map_err(|error| format!("{error:#}"))?;
    let module = image::module(&engine, artifact).map_err(|error| format!("the module: {error:#}"))?;
    let mut linker = Linker::new(&engine);
    gates::link(&mut linker, &engine).map_err(|error| format!("{error:#}"))?;
    wasi::link(&mut linker).map_err(|error| format!("{error:#}"))?;
    let mut store = Store::new(&engine, gates);
    instantiate(&mut store, &linker, &module).map_err(|error| format!("{error:#}")).and_then(|instance| {
        let parcel =
            instance.get_typed_func(&mut store, PARCEL).map_err(|error| format!("{PARCEL}: {error:#}"))?;
        let event = event_of(&instance, &mut store).map_err(|error| format!("{EVENT}: {error:#}"))?;
        Ok(Started { store, parcel, event })
    })
}

fn event_of(instance: &Instance, store: &mut Store<Gates>) -> wasmtime::Result<Event> {
    if let Ok(event) = instance.get_typed_func(&mut *store, EVENT) {
        return Ok(Event::Plain(event));
    }
    let event = instance.get_typed_func(&mut *store, EVENT)?;
    Ok(Event::Answering(event, instance.get_typed_func(&mut *store, REFUSED)?))
}

fn instantiate(
    store: &mut Store<Gates>,
    linker: &Linker<Gates>,
    module: &Module,
) -> wasmtime::Result<Instance> {
    let instance = linker.instantiate(&mut *store, module)?;
    if instance.get_memory(&mut *store, MEMORY).is_none() {
        wasmtime::bail!("it exports no memory");
    }
    if let Some(start) = instance.get_func(&mut *store, START) {
        start.typed::<(), ()>(&*store)?.call(&mut *store, ())?;
    }
    Ok(instance)
}

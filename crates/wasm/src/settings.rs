//! The engine's settings: one place for compiler and cells. wasmtime compares them as well when it loads.

use std::num::NonZeroUsize;

use wasmparser::WasmFeatures;
use wasmtime::Config;

use crate::artifact::Kind;
use crate::maker::{MEMORY_GUARD, MEMORY_RESERVATION, STACK_BYTES_MAX};

/// Frames of a trap that are told.
const BACKTRACE_FRAMES_MAX: usize = 32;

/// The proposals that modules may use: what toolchains emit by default, and what needs no state beside the memory.
///
/// Absent on purpose: threads (a cell has one), memories of 64 bits and several memories (addresses are offsets of 32
/// bits in the one memory), garbage collection and exceptions (they need a heap that the engine manages).
#[must_use]
pub fn proposals() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
}

/// The proposals that components may use: those of their modules, and components, asynchronous ones where `is_async`. The glue
/// that the engine puts between two modules has the memories of both.
#[must_use]
pub fn component_proposals(is_async: bool) -> WasmFeatures {
    let components = proposals() | WasmFeatures::MULTI_MEMORY | WasmFeatures::COMPONENT_MODEL;
    if is_async { components | WasmFeatures::CM_ASYNC } else { components }
}

/// What compiler and cell set up their engines with. A cell may add what does not show in the code that runs, such
/// as who makes its memories.
///
/// Traps are faults of the processor, and nobody handles them here: a module that traps is a guest that faulted, which the
/// cell ends and sets up anew. So bounds need no checks in the code: what is out of bounds is not mapped, but for the pool's
/// window. The memory never moves, so that its base is loaded once. Whoever takes too long is stopped by the cell's timer, from
/// outside: code looks at no epoch.
#[must_use]
pub fn settings(kind: Kind) -> Config {
    let mut config = Config::new();
    let wanted = match kind {
        Kind::Module => proposals(),
        Kind::Component { is_async } => component_proposals(is_async),
    };
    config.wasm_features(WasmFeatures::all() & !wanted, false).wasm_features(wanted, true);
    config
        .signals_based_traps(true)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_may_move(false)
        .memory_init_cow(false)
        .concurrency_support(kind == Kind::Component { is_async: true })
        .consume_fuel(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable)
        .native_unwind_info(false)
        .generate_address_map(false);
    match kind {
        Kind::Module => {
            config.max_wasm_stack(STACK_BYTES_MAX);
        }
        Kind::Component { .. } => {
            config.guard_before_linear_memory(false);
        }
    }
    compiler(&mut config);
    config
}

#[cfg(feature = "compile")]
fn compiler(config: &mut Config) {
    config.strategy(wasmtime::Strategy::Cranelift).cranelift_opt_level(wasmtime::OptLevel::Speed);
}

#[cfg(not(feature = "compile"))]
fn compiler(_: &mut Config) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_takes_the_settings() {
        for kind in [Kind::Module, Kind::Component { is_async: false }, Kind::Component { is_async: true }] {
            wasmtime::Engine::new(&settings(kind)).unwrap();
        }
    }
}

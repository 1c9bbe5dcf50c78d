//! The plan of a group: what its template has to know about each function.

use std::ffi::CString;

use baton_abi::boot::PoolAccess;
use baton_abi::plan::{NewEntry, Writer};
use baton_catalog::PoolRights;

use super::Group;
use crate::app::{App, FunctionState};
use crate::hosting::Hosting;
use crate::start::{callees, words};

/// How much of the pool a function may map.
pub(crate) fn access(rights: PoolRights) -> PoolAccess {
    match rights {
        PoolRights::Write => PoolAccess::Write,
        PoolRights::Read => PoolAccess::Read,
        PoolRights::None => PoolAccess::Absent,
    }
}

/// The plan, an entry a seat.
pub(super) fn entries(app: &App, group: &Group) -> Result<Vec<Vec<u8>>, String> {
    let seats = group.seats.iter().zip(&group.key_groups);
    seats
        .map(|(&function, &key_group)| {
            let state = app.functions.get(function).ok_or("no such function")?;
            entry(app, state, key_group)
        })
        .collect()
}

fn entry(app: &App, state: &FunctionState, key_group: u32) -> Result<Vec<u8>, String> {
    let spec = &state.spec;
    let (args, env) = words(app, state)?;
    let bytes = |words: &'_ [CString]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let (args, env) = (bytes(&args), bytes(&env));
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let timeout_of = |name: &str| {
        let callee = app.functions.iter().find(|other| other.name.as_str() == name);
        // The network takes no longer than whoever asks it may.
        nanoseconds(callee.map_or(spec, |callee| &callee.spec).timeout.duration())
    };
    let calls: Vec<(&str, u64)> = callees(spec).map(|name| (name, timeout_of(name))).collect();
    let mut plan = Vec::new();
    Writer::new(|bytes: &[u8]| plan.extend_from_slice(bytes)).entry(&NewEntry {
        name: state.name.as_str(),
        access: access(spec.pool) as u32,
        concurrency: spec.scale.concurrency,
        timeout_ns: nanoseconds(spec.timeout.duration()),
        memory_bytes: spec.memory.bytes(),
        reset: spec.begins_anew(),
        key_group,
        window: state.hosting == Hosting::Wasm,
        args: &args.iter().map(Vec::as_slice).collect::<Vec<_>>(),
        env: &env.iter().map(Vec::as_slice).collect::<Vec<_>>(),
        calls: &calls,
        patches: &state.patches,
    });
    Ok(plan)
}

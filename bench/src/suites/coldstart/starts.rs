//! New cells and new replicas: every sample evicts the cell and sends one request, then another.

use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use crate::load::Caller;
use crate::report::Series;

use super::{PATIENCE, Stage, SuiteError, evict, timed, wrong};

/// For the node to be done with the old cell.
const SETTLE: Duration = Duration::from_millis(2);

/// What the function answers: when it began, when it called, when the called one began.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Stamps {
    first_ns: u64,
    called_ns: u64,
    second_ns: u64,
    called_again_ns: u64,
    second_again_ns: u64,
}

#[derive(Debug, Default)]
struct Times {
    cell: Vec<u64>,
    warm: Vec<u64>,
    replica: Vec<u64>,
    replica_warm: Vec<u64>,
}

pub(super) fn measure(stage: &Stage, count: usize, series: &mut Series) -> Result<(), SuiteError> {
    let fleet = &stage.cells;
    let request = format!("GET /coldstart HTTP/1.1\r\nhost: {}\r\n\r\n", fleet.address);
    let mut caller = Caller::connect(fleet.address, PATIENCE)?;
    let mut times = Times::default();
    for nth in 0..=count {
        evict(fleet, stage.app.name())?;
        thread::sleep(SETTLE);
        let (sent_ns, cold) = ask(&mut caller, &request, &fleet.system)?;
        let (sent_again_ns, warm) = ask(&mut caller, &request, &fleet.system)?;
        if nth == 0 {
            // The first one finds the node's own memory cold.
            continue;
        }
        times.cell.push(cold.first_ns.saturating_sub(sent_ns));
        times.warm.push(warm.first_ns.saturating_sub(sent_again_ns));
        times.replica.push(cold.second_ns.saturating_sub(cold.called_ns));
        times.replica_warm.push(warm.second_again_ns.saturating_sub(warm.called_again_ns));
    }
    let Times { cell, warm, replica, replica_warm } = times;
    for (case, times) in
        [("cell", cell), ("warm", warm), ("replica", replica), ("replica-warm", replica_warm)]
    {
        series.add(stage.key(case), timed(case, times)?);
    }
    Ok(())
}

/// Sends the request; also when.
fn ask(caller: &mut Caller, request: &str, system: &str) -> Result<(u64, Stamps), SuiteError> {
    let sent_ns = now_ns();
    let answer = caller.request(request.as_bytes())?;
    let stamps = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200);
    let stamps = stamps.ok_or_else(|| {
        let body = String::from_utf8_lossy(&answer.body);
        wrong(system, format!("status {} and no stamps: {body}", answer.status))
    })?;
    Ok((sent_ns, stamps))
}

/// `CLOCK_MONOTONIC`, as the functions read it.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

//! Ending replicas that have nothing to do before their time, where the node runs short of descriptors or the machine of memory.
//!
//! Those go first that are the cheapest to start again, as the last start of each took; of those about alike, the ones that
//! were not used for longest. What has to be there, or someone waits for, stays. What ended comes back as after any sleep.

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::app::App;
use crate::node::Node;
use crate::scale::Unit;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks between two at the machine's memory.
const LOOKS_A_MEMORY: u32 = 10;
/// From so many of a hundred descriptors on cells are ended: what is left is for those that start until the next look.
const DESCRIPTORS_PERCENT: u64 = 75;
/// With less of a hundred of the machine's memory to be had, replicas are ended.
const MEMORY_PERCENT: u64 = 5;
/// Of the units of which some could end, one in so many does at a time.
const PART: usize = 4;

/// Looks after the node's needs, forever.
pub(crate) async fn relieve(node: Rc<Node>) {
    let mut looks = 0u32;
    let mut is_told = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        looks = looks.wrapping_add(1);
        let short = descriptors().or_else(|| looks.is_multiple_of(LOOKS_A_MEMORY).then(memory).flatten());
        let Some(short) = short else {
            is_told &= !looks.is_multiple_of(LOOKS_A_MEMORY);
            continue;
        };
        let ended = end_idle(&node);
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(short, ended, "replicas that have nothing to do end before their time");
        }
    }
}

/// What the node is short of, if that is descriptors.
fn descriptors() -> Option<&'static str> {
    let most = getrlimit(Resource::Nofile).current?;
    (open()? > most / 100 * DESCRIPTORS_PERCENT).then_some("descriptors")
}

/// How many descriptors are open.
fn open() -> Option<u64> {
    const OPEN: &str = "/proc/self/fd";
    match fs::metadata(OPEN).ok()?.len() {
        // Older kernels do not say it there.
        0 => Some(fs::read_dir(OPEN).ok()?.count() as u64),
        count => Some(count),
    }
}

/// What the node is short of, if that is memory.
fn memory() -> Option<&'static str> {
    is_short(&fs::read_to_string("/proc/meminfo").ok()?)?.then_some("memory")
}

fn is_short(meminfo: &str) -> Option<bool> {
    let of = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(of("MemAvailable:")? < of("MemTotal:")? / 100 * MEMORY_PERCENT)
}

/// Ends some of the replicas that need not be there and that nobody waits for. Gives how many units it asked.
fn end_idle(node: &Node) -> usize {
    let mut idle: Vec<(Rc<App>, Rc<Unit>)> = Vec::new();
    for app in node.live_apps() {
        let can_end = |unit: &&Rc<Unit>| unit.can_shrink() && !app.is_wanted(unit);
        idle.extend(app.units.iter().filter(can_end).map(|unit| (Rc::clone(&app), Rc::clone(unit))));
    }
    for app in node.live_apps() {
        // Those without a replica have one who wants them again wait for an import: after all others in its app.
        app.functions.iter().filter_map(|state| state.nursery.as_ref()).for_each(|nursery| nursery.relieve());
    }
    idle.sort_by_key(|(_, unit)| (cost(unit.start_took.get()), unit.used.get()));
    let part = idle.len().div_ceil(PART);
    idle.iter().take(part).filter(|(app, unit)| unit.relieve(app)).count()
}

/// What it costs to start one again, in doublings: of those about alike, the one that was not used for longest goes.
fn cost(start_took: Duration) -> u32 {
    start_took.as_micros().checked_ilog2().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_the_memory_is_little() {
        let says = |available: u64| {
            is_short(&format!("MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   {available} kB\n"))
        };
        assert_eq!((says(1_000_000), says(1_300_000)), (Some(true), Some(false)));
        assert_eq!(is_short("nothing"), None);
        assert_eq!(memory(), None, "this machine has some");
    }

    #[test]
    fn what_takes_about_as_long_costs_the_same() {
        let of = |us| cost(Duration::from_micros(us));
        assert!(of(0) <= of(300) && of(300) == of(500) && of(500) < of(20_000) && of(20_000) < of(900_000));
    }

    #[test]
    fn descriptors_are_counted() {
        let before = open().unwrap();
        let more: Vec<fs::File> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close some, too.
        assert!(before > 2 && open().unwrap() > before + 25);
        drop(more);
        assert_eq!(descriptors(), None);
    }
}

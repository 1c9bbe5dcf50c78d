//! Many nodes in one thread, with time, connections and faults made up from a seed: the same state machines and vaults as the driver's.
//!
//! | what is made up | how |
//! |---|---|
//! | connections | latency, small windows, loss in the middle of frames, order only within one; pieces travel as references into the sender's pool and are read when they arrive, as `sendfile` has it |
//! | nodes | crashes, restarts as another incarnation, clocks that jump ahead, slow readers, drains |
//! | users | calls with and without bodies, large answers, cancellation, deadlines, revocation |
//!
//! What must hold: every call ends exactly once at a caller that lives; a handler begins at most once for a call, and never for one whose error
//! says that it has not begun; bytes that arrive are the bytes that were sent; queues stay within their bounds; nothing is refused that is held;
//! at the end nothing is held and no room is taken.
//!
//! `BATON_SIM_SEEDS` sets how many seeds are run, `BATON_SIM_SEED` runs one.

mod memory;
mod net;
mod node;
mod world;

use world::World;

/// Seeds when nobody says.
const SEEDS: u64 = 2000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs `seeds`, on as many threads as there are cores. Stops at the first failure.
fn run(seeds: std::ops::Range<u64>, plant: Option<Bug>) -> Result<Totals, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let part = &|first: u64| {
        let mut totals = Totals::default();
        for seed in (seeds.start + first..seeds.end).step_by(usize::try_from(threads).unwrap()) {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            match one(seed, plant) {
                Ok(run) => totals.add(&run),
                Err(failure) => {
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                    return Err(failure);
                }
            }
        }
        Ok(totals)
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        let mut totals = Totals::default();
        for part in parts {
            totals.add(&part.join().unwrap()?);
        }
        Ok(totals)
    })
}

fn one(seed: u64, plant: Option<Bug>) -> Result<Totals, String> {
    std::panic::catch_unwind(|| World::new(seed, plant).run()).map_err(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("seed {seed} (run it alone with BATON_SIM_SEED={seed}): {}", why.unwrap_or_default())
    })
}

/// A mistake that is made on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// A hold ends when its bytes were sent, not when they were acknowledged.
    DeleteOnSend,
    /// Memory goes with the hold, though a connection still sends from it.
    ReleaseBeforeReset,
    /// A call is sent again over the next lane by itself.
    SendAgain,
}

/// What happened, over all seeds: a simulation in which nothing happens finds nothing.
#[derive(Clone, Debug, Default)]
struct Totals {
    answered: u64,
    failed: u64,
    cancelled: u64,
    pulled: u64,
    refused: u64,
    resumed: u64,
    broken: u64,
    crashes: u64,
    resets: u64,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.pulled += other.pulled;
        self.refused += other.refused;
        self.resumed += other.resumed;
        self.broken += other.broken;
        self.crashes += other.crashes;
        self.resets += other.resets;
    }
}

#[test]
fn promises_hold_whatever_breaks() {
    let start = std::time::Instant::now();
    let one = number("BATON_SIM_SEED");
    let seeds = one.map_or(0..number("BATON_SIM_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let totals = run(seeds, None).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{totals:?} in {:?}", start.elapsed());
    if one.is_none() {
        let Totals { answered, failed, cancelled, pulled, resumed, broken, crashes, resets, .. } = totals;
        let all = [answered, failed, cancelled, pulled, resumed, broken, crashes, resets];
        assert!(all.iter().all(|count| *count > 0), "something never happened: {all:?}");
    }
}

fn finds(bug: Bug) {
    let failure = run(0..400, Some(bug)).expect_err("the mistake was not found");
    println!("{bug:?}: {failure}");
}

#[test]
fn deleting_on_send_is_found() {
    finds(Bug::DeleteOnSend);
}

#[test]
fn releasing_memory_before_the_reset_is_found() {
    finds(Bug::ReleaseBeforeReset);
}

#[test]
fn sending_a_call_twice_is_found() {
    finds(Bug::SendAgain);
}

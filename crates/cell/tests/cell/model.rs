//! Random sequences of gate calls, held to a model.
//!
//! Three seats of a cell hold puppets (`guests/puppet.c`), which do what scripts say: take buffers, hand them to one another
//! in nested calls, lend, share, freeze, narrow, revoke, give back, answer early, give calls up. A plain model says what
//! each step gives, what every payload holds, and what nobody may see. In the end everything is back in the pool.
//!
//! `BATON_MODEL_SEED` replays a run, `BATON_MODEL_CASES` sets how many cases there are.

mod calls;
mod hand;
pub(crate) mod script;
mod steps;
mod world;

use std::time::{Duration, Instant};

use baton_abi::cell::Trust;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::calls::both;
use crate::guest;
use crate::node::{Cell, Function, Node};
use script::{Body, Called, FETCH, LOAD, Op, PROGRAM_BYTES, Part, Record, SYNC, Script, kind};
use world::World;

const SEATS: usize = 3;
/// Cases of one run, unless time is up before.
const CASES: u32 = 200;
/// How long one run may take.
const LONGEST: Duration = Duration::from_secs(10);
/// How long one request may take: none waits for anything.
const PATIENCE: Duration = Duration::from_millis(500);

/// For scripts in scripts.
const STACK_BYTES: usize = 64 << 20;

/// A request of the node's.
#[derive(Clone, Debug)]
struct Run {
    seat: u8,
    body: u32,
    script: Script,
}

fn part() -> impl Strategy<Value = Part> {
    let thousandths = || prop_oneof![3 => Just(0u16), 1 => 0..=1000u16];
    let length = prop_oneof![3 => Just(1000u16), 2 => 0..=1000u16];
    (0..64u16, thousandths(), length, prop::bool::weighted(0.06))
        .prop_map(|(entry, from, len, beyond)| Part { entry, from, len, beyond })
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => prop::sample::select(vec![1u32, 8, 200, 256, 1000, 4096]),
        1 => prop::sample::select(vec![60_000u32, 65_536]),
        3 => prop::sample::select(vec![65_537u32, 70_000, 140_000]),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => Just(Body::Nothing),
        1 => (any::<u64>(), 0..80u16).prop_map(|(value, len)| Body::Inline { value, len }),
        2 => prop::sample::select(vec![0u16, 5, 200, 5000, 65_535]).prop_map(|len| Body::Static { len, byte: 0 }),
        2 => part().prop_map(Body::Bytes),
        5 => part().prop_map(Body::Move),
        4 => (part(), 0..8u8).prop_map(|(part, rights)| Body::Lend(part, rights)),
        3 => part().prop_map(Body::Share),
    ]
}

fn script(steps: impl Strategy<Value = Vec<Op>>) -> impl Strategy<Value = Script> {
    let head = || option::weighted(0.15, part());
    (steps, body(), head()).prop_map(|(steps, answer, head)| Script { steps, answer, head })
}

fn op() -> impl Strategy<Value = Op> {
    let head = || option::weighted(0.15, part());
    let leaf = prop_oneof![
        5 => (size(), 1..3u8).prop_map(|(bytes, count)| Op::Alloc { bytes, count }),
        4 => part().prop_map(Op::Fill),
        5 => part().prop_map(Op::Read),
        3 => (0..64u16, option::weighted(0.2, 0..64u16)).prop_map(|(first, second)| Op::Free(first, second)),
        2 => (0..64u16).prop_map(Op::Freeze),
        2 => part().prop_map(Op::Narrow),
        2 => (0..64u16).prop_map(Op::Revoke),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(gate, place)| Op::Bad { gate, place }),
        1 => any::<u8>().prop_map(Op::Wait),
        1 => any::<u8>().prop_map(Op::Cancel),
        1 => (body(), head()).prop_map(|(body, head)| Op::Reply(body, head)),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let called = (0..3u8, body(), head(), script(vec(inner, 0..6)))
            .prop_map(|(callee, body, head, script)| Called { callee, body, head, script });
        called.prop_map(|called| Op::Call(Box::new(called)))
    })
}

fn run() -> impl Strategy<Value = Run> {
    let body = prop_oneof![2 => Just(0u32), 3 => size()];
    (0..3u8, body, script(vec(op(), 0..12))).prop_map(|(seat, body, script)| Run { seat, body, script })
}

/// What the node asks for and ought to get.
struct Plan {
    world: World,
    requests: Vec<(usize, Vec<u8>, u16, world::Answer)>,
}

/// Runs the model.
fn plan(trust: Trust, runs: &[Run]) -> Plan {
    let mut world = World::new(trust, SEATS);
    let mut requests = Vec::new();
    let mut ask = |world: &mut World, seat: usize, len: u32, script: &Script| {
        let body = world.payload_of_node(len as usize);
        let (number, answer) = world.request(seat, &body, script);
        requests.push((seat, body, number, answer));
    };
    for run in runs {
        ask(&mut world, usize::from(run.seat), run.body, &run.script);
    }
    // Everything is given back: what is held, and what is not held any more is refused.
    for seat in 0..SEATS {
        let entries = u16::try_from(world.entries(seat)).unwrap();
        let steps = (0..entries).map(|entry| Op::Free(entry, None)).collect();
        ask(&mut world, seat, 0, &Script { steps, answer: Body::Nothing, head: None });
    }
    assert!(world.is_empty(), "the model loses nothing");
    Plan { world, requests }
}

/// Whether a puppet recorded what it ought to have. Of a grant, capacity and leftovers are only bounded.
fn agrees(got: &Record, expect: &Record) -> bool {
    if expect.0[0] != u64::from(kind::GRANT) {
        return got == expect;
    }
    let of_programs = u64::MAX << (PROGRAM_BYTES % 64);
    let leftovers = (2..6).all(|word| {
        let ignored = if word == 5 { of_programs } else { 0 };
        got.0[word] & !ignored & !expect.0[word] == 0
    });
    got.0[0] == expect.0[0] && got.0[1] >= expect.0[1] && leftovers
}

fn compare(seat: usize, got: &[Record], expect: &[Record]) -> Result<(), String> {
    for (nth, expected) in expect.iter().enumerate() {
        let Some(found) = got.get(nth) else { return Err(format!("seat {seat} stops before {expected:?}")) };
        if !agrees(found, expected) {
            let before = &got[nth.saturating_sub(4)..nth];
            return Err(format!("seat {seat}, record {nth}: {found:?}\nnot {expected:?}\nafter {before:#?}"));
        }
    }
    if got.len() > expect.len() {
        Err(format!("seat {seat} records more: {:?}", got[expect.len()]))
    } else {
        Ok(())
    }
}

/// One request of a case, answered, and all that came of it done.
pub(crate) fn ask(
    cell: &mut Cell,
    node: &mut Node,
    seat: usize,
    body: &[u8],
    operation: u16,
) -> Result<(u16, Vec<u8>), String> {
    let tag = cell.send(&mut node.pool, seat, body, operation);
    match cell.wait_for(&mut node.pool, (seat, tag), PATIENCE) {
        Some(answer) if answer.is_error => {
            Err(format!("seat {seat}, operation {operation:#x}: {}", answer.text()))
        }
        Some(answer) => Ok((answer.status, answer.body)),
        None => Err(format!("seat {seat} does not answer {operation:#x}; the cell said {:?}", cell.said)),
    }
}

fn play(node: &mut Node, cell: &mut Cell, plan: &Plan) -> Result<(), String> {
    for (seat, of) in plan.world.seats.iter().enumerate() {
        ask(cell, node, seat, &script::program(&of.program), LOAD)?;
    }
    for (seat, body, number, expect) in &plan.requests {
        let got = ask(cell, node, *seat, body, *number)?;
        if got != (expect.status, expect.body.clone()) {
            let shown =
                |(status, body): (u16, &[u8])| format!("{status}, {} bytes {:x?}", body.len(), body.first());
            let (got, expect) = (shown((got.0, &got.1)), shown((expect.status, &expect.body)));
            return Err(format!("request {number} of seat {seat}: {got}, not {expect}"));
        }
        // What callees were told to do later is done before the last of these is answered.
        for _ in 0..plan.world.pending() + 2 {
            ask(cell, node, *seat, &[], SYNC)?;
        }
    }
    for (seat, of) in plan.world.seats.iter().enumerate() {
        let (_, records) = ask(cell, node, seat, &[], FETCH)?;
        compare(seat, &script::records(&records), &of.records)?;
    }
    Ok(())
}

/// One case, in a cell of its own.
fn check(node: &mut Node, trust: Trust, runs: &[Run]) -> Result<(), String> {
    let plan = plan(trust, runs);
    let mut cell = node.fork();
    let played = play(node, &mut cell, &plan);
    let shown = played.is_ok() && cell.show(&mut node.pool);
    let held: Vec<_> = node.pool.capabilities().collect();
    cell.end(&mut node.pool);
    node.reuse_ranges();
    played?;
    if !shown {
        return Err("the cell does not say who holds what".to_owned());
    }
    if !held.is_empty() {
        return Err(format!("still held in the end: {held:?}"));
    }
    let left = node.pool.capabilities().count();
    if left > 0 { Err(format!("{left} capabilities outlive their cell")) } else { Ok(()) }
}

pub(crate) fn puppets(trust: Trust) -> Node {
    let puppet = guest("puppet");
    let names = ["a", "b", "c"];
    let function = |name| {
        let mut function = Function::new(name, &puppet).calls(&names);
        function.timeout = Duration::from_secs(10);
        function
    };
    Node::start(trust, names.map(function).to_vec()).unwrap()
}

fn seed() -> [u8; 32] {
    let given = std::env::var("BATON_MODEL_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| u64::from(now.subsec_nanos()) << 8 | u64::from(std::process::id() & 0xff))
    });
    println!("BATON_MODEL_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

#[test]
fn sequences_of_gate_calls_do_what_a_model_does() {
    // Scripts in scripts: shrinking them takes more stack than tests have.
    let all = || both(hold_to_the_model);
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(all).unwrap().join().unwrap();
}

fn hold_to_the_model(trust: Trust) {
    let cases = std::env::var("BATON_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let shrink_ms =
        std::env::var("PROPTEST_MAX_SHRINK_TIME").ok().and_then(|ms| ms.parse().ok()).unwrap_or(60_000);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        max_shrink_time: shrink_ms,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let node = std::cell::RefCell::new(puppets(trust));
    let (began, done) = (Instant::now(), std::cell::Cell::new(0));
    let failed = std::cell::Cell::new(false);
    let result = runner.run(&vec(run(), 1..5), |runs| {
        if cases == CASES && began.elapsed() > LONGEST && !failed.get() {
            return Ok(());
        }
        done.set(done.get() + 1);
        let checked = check(&mut node.borrow_mut(), trust, &runs);
        if let Err(why) = &checked {
            failed.set(true);
            if !why.contains("does not answer") {
                return Err(TestCaseError::fail(why.clone()));
            }
            // What went wrong may have gone wrong for good.
            *node.borrow_mut() = puppets(trust);
        }
        checked.map_err(TestCaseError::fail)
    });
    println!("{} cases in {:?}", done.get(), began.elapsed());
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, runs)) => panic!("{why}\n{runs:?}"),
        Err(error) => panic!("{error}"),
    }
}

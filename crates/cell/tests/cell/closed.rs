//! Under `trust = "buffer"` the pages of a buffer are open to whoever holds it, and to nobody else: a guest that goes on with an
//! address that it has given back ends, and the others find what they left.

use baton_abi::cell::Trust;

use crate::machine_can;
use crate::model::script::{Body, FETCH, LOAD, NO_PART, Part, Raw, kind, program, records, sum_of};
use crate::model::{ask, puppets};
use crate::node::{Cell, Node};

const BYTES: usize = 70_000;
const WHOLE: Part = Part { entry: 0, from: 0, len: 1000, beyond: false };
/// The number of the script that the second seat runs for the first one.
const CALLED: u16 = 2;
const ERROR_FLAG: u64 = 8 << 16;

fn alloc() -> Raw {
    Raw { code: 1, argument: 1, value: BYTES as u64, ..Raw::new(kind::ALLOC) }
}

fn call(body: Body) -> Raw {
    Raw { code: CALLED, callee: 1, ..Raw::new(kind::CALL) }.carrying(body, None)
}

fn fill() -> Raw {
    Raw { code: 9, part: WHOLE, ..Raw::new(kind::FILL) }
}

fn free() -> Raw {
    Raw { part: WHOLE, head: NO_PART, ..Raw::new(kind::FREE) }
}

fn read() -> Raw {
    Raw { part: WHOLE, ..Raw::new(kind::READ) }
}

fn reply(body: Body) -> Raw {
    Raw { code: 200, ..Raw::new(kind::REPLY) }.carrying(body, None)
}

const DONE: Body = Body::Inline { value: 1, len: 1 };

/// Two puppets with their scripts, numbered from 1 and from [`CALLED`] on.
fn cast(node: &mut Node, first: &[&[Raw]], second: &[&[Raw]]) -> Cell {
    let mut cell = node.fork();
    for (seat, (from, scripts)) in [(1, first), (CALLED, second)].into_iter().enumerate() {
        let scripts: Vec<(u16, Vec<Raw>)> =
            (from..).zip(scripts.iter().map(|script| script.to_vec())).collect();
        ask(&mut cell, node, seat, &program(&scripts), LOAD).unwrap();
    }
    cell
}

/// Whether the first seat still finds in its buffer what it wrote when it was new.
fn is_untouched(node: &mut Node, cell: &mut Cell) -> bool {
    let (_, bytes) = ask(cell, node, 0, &[], FETCH).unwrap();
    let last =
        *records(&bytes).iter().rfind(|record| record.0[0] == u64::from(kind::READ)).expect("it was read");
    last.0[1] == sum_of(&vec![1; BYTES])
}

/// Plays where pages are closed at all.
fn with_closed_pages(play: impl Fn(&mut Node)) {
    if machine_can() {
        play(&mut puppets(Trust::Buffer));
    }
}

#[test]
fn what_was_given_back_during_the_call_is_closed() {
    for body in [Body::Lend(WHOLE, 7), Body::Share(WHOLE)] {
        with_closed_pages(|node| {
            let mut cell =
                cast(node, &[&[alloc(), call(body), read(), reply(DONE)]], &[&[free(), fill(), reply(DONE)]]);
            ask(&mut cell, node, 0, &[], 1).unwrap();
            let (_, bytes) = ask(&mut cell, node, 0, &[], FETCH).unwrap();
            let answer =
                *records(&bytes).iter().find(|record| record.0[0] == u64::from(kind::ANSWER)).unwrap();
            assert_ne!(answer.0[2] & ERROR_FLAG, 0, "the callee ended: {answer:?}");
            assert!(is_untouched(node, &mut cell));
            assert_eq!(cell.faults(), 1);
        });
    }
}

#[test]
fn what_was_lent_is_closed_when_the_call_is_over() {
    with_closed_pages(|node| {
        let first: &[&[Raw]] = &[&[alloc(), call(Body::Lend(WHOLE, 7)), reply(DONE)], &[read(), reply(DONE)]];
        let mut cell = cast(node, first, &[&[reply(DONE)], &[fill(), reply(DONE)]]);
        ask(&mut cell, node, 0, &[], 1).unwrap();
        assert!(ask(&mut cell, node, 1, &[], CALLED + 1).is_err(), "it ends at its old address");
        ask(&mut cell, node, 0, &[], 2).unwrap();
        assert!(is_untouched(node, &mut cell));
    });
}

#[test]
fn what_was_moved_is_closed_to_its_sender() {
    with_closed_pages(|node| {
        let first: &[&[Raw]] = &[&[alloc(), call(Body::Move(WHOLE)), reply(DONE)], &[fill(), reply(DONE)]];
        let mut cell = cast(node, first, &[&[reply(DONE)], &[read(), reply(Body::Move(WHOLE))]]);
        ask(&mut cell, node, 0, &[], 1).unwrap();
        assert!(ask(&mut cell, node, 0, &[], 2).is_err(), "it ends at its old address");
        let (_, body) = ask(&mut cell, node, 1, &[], CALLED + 1).unwrap();
        assert_eq!(body, vec![1; BYTES]);
    });
}

#[test]
fn what_its_owner_gave_up_is_closed_to_it_though_others_read_on() {
    with_closed_pages(|node| {
        let first: &[&[Raw]] =
            &[&[alloc(), call(Body::Share(WHOLE)), free(), reply(DONE)], &[fill(), reply(DONE)]];
        let second: &[&[Raw]] = &[&[reply(DONE)], &[read(), reply(DONE)], &[free(), reply(DONE)]];
        let mut cell = cast(node, first, second);
        ask(&mut cell, node, 0, &[], 1).unwrap();
        ask(&mut cell, node, 1, &[], CALLED + 1).unwrap();
        assert!(ask(&mut cell, node, 0, &[], 2).is_err(), "it ends at its old address");
        ask(&mut cell, node, 1, &[], CALLED + 1).unwrap();
        let (_, bytes) = ask(&mut cell, node, 1, &[], FETCH).unwrap();
        let sums: Vec<u64> = records(&bytes)
            .iter()
            .filter(|record| record.0[0] == u64::from(kind::READ))
            .map(|read| read.0[1])
            .collect();
        assert_eq!(sums, [sum_of(&vec![1; BYTES]); 2]);
        ask(&mut cell, node, 1, &[], CALLED + 2).unwrap();
        assert!(cell.show(&mut node.pool));
        assert_eq!(node.pool.capabilities().count(), 0, "it came back with its last reader");
    });
}

//! Holds the numbers of the program's header against those of the house.

use std::collections::BTreeMap;

use baton_abi::limits::DERIVED_MAX;
use baton_abi::packet::{CREDITS, Op, PACKET_BYTES};
use baton_abi::{Flags, Kind, NONE, Rights};
use baton_pool::capability::{DEPTH_MAX, Entry, NODE, State};

use crate::Cause;

/// What `#define NAME number` lines say.
fn numbers() -> BTreeMap<&'static str, u64> {
    let lines = include_str!("../bpf/handover.h").lines();
    let defined = lines.filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    defined.filter_map(|(name, text)| Some((name, number(text)?))).collect()
}

#[test]
fn the_programs_numbers_are_the_houses() {
    let mut numbers = numbers();
    let house = [
        ("PACKET_BYTES", PACKET_BYTES as u64),
        ("CREDITS", u64::from(CREDITS)),
        ("OP_SEND", Op::Send as u64),
        ("OP_WAKE", Op::Wake as u64),
        ("OP_REVOKE", Op::Revoke as u64),
        ("OP_RESTRICT", Op::Restrict as u64),
        ("OP_RELEASE", Op::Release as u64),
        ("OP_NODE_WAKE", Op::NodeWake as u64),
        ("OP_REFUSED", Op::Refused as u64),
        ("OP_DERIVE", Op::Derive as u64),
        ("NONE", u64::from(NONE)),
        ("KIND_REQUEST", Kind::Request as u64),
        ("KIND_REPLY", Kind::Reply as u64),
        ("KIND_CANCEL", Kind::Cancel as u64),
        ("FLAG_LEND", u64::from(Flags::LEND.0)),
        ("FLAG_SHARE", u64::from(Flags::SHARE.0)),
        ("FLAG_RECORD", u64::from(Flags::RECORD.0)),
        ("FLAG_ERROR", u64::from(Flags::ERROR.0)),
        ("FLAG_INLINE", u64::from(Flags::INLINE.0)),
        ("FLAG_REFUSED", u64::from(Flags::REFUSED.0)),
        ("INLINE_MAX", 8),
        ("RIGHT_READ", u64::from(Rights::READ.0)),
        ("RIGHT_WRITE", u64::from(Rights::WRITE.0)),
        ("RIGHT_PASS", u64::from(Rights::PASS.0)),
        ("STATE_FREE", State::Free as u64),
        ("STATE_STASHED", State::Stashed as u64),
        ("STATE_HELD", State::Held as u64),
        ("STATE_IN_FLIGHT", State::InFlight as u64),
        ("STATE_TO_NODE", State::ToNode as u64),
        ("STATE_RELEASED", State::Released as u64),
        ("STATE_REVOKED", State::Revoked as u64),
        ("NO_PARENT", u64::MAX),
        ("DEPTH_MAX", u64::from(DEPTH_MAX)),
        ("ARENA_ENTRIES", u64::from(DERIVED_MAX)),
        ("NODE", u64::from(NODE)),
        ("NODE_ARENA", u64::from(crate::plane::NODE_ARENA)),
        ("UNREAD_MAX", u64::from(crate::sockets::UNREAD_MAX)),
        ("RUN_MAX", 64),
        ("WRITTEN", u64::from(crate::scribe::WRITTEN)),
        ("NOT_WRITTEN", u64::from(crate::scribe::WRITTEN) - 1),
        ("ORDERS", crate::scribe::ORDERS as u64),
        ("CAUSES", Cause::ALL.len() as u64),
    ];
    for (name, number) in house {
        assert_eq!(numbers.remove(name), Some(number), "{name}");
    }
    for (number, cause) in (0..).zip(Cause::ALL) {
        assert_eq!(cause as u64, number);
        let name = format!("CAUSE_{}", cause.word().to_uppercase());
        assert_eq!(numbers.remove(name.as_str()), Some(number), "{name}");
    }
    assert!(numbers.is_empty(), "numbers that nothing holds: {numbers:?}");
    assert_eq!(size_of::<Entry>(), 64);
}

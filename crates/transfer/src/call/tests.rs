//! Call lanes, one end at a time.

use std::time::Duration;

use super::*;
use crate::limits::{Limits, PING_EVERY, SILENCE_MAX};
use crate::payload::{Answer, AnswerKind, Incoming};
use crate::vault::Now;
use crate::wire::call::{ToCallee, ToCaller};

const SOON: Duration = Duration::from_millis(1);

fn limits() -> Limits {
    Limits { calls: 2, incoming_bytes: 100, ..Limits::default() }
}

fn call(seconds: u64) -> Incoming {
    let (app, function) = ("shop".to_owned(), "cart".to_owned());
    Incoming {
        app,
        function,
        timeout: Duration::from_secs(seconds),
        head: vec![0; 80],
        ..Incoming::default()
    }
}

fn caller() -> Caller {
    let mut caller = Caller::new(Now::ZERO, &limits());
    caller.receive(Now::ZERO, 0, ToCaller::Credit(2)).unwrap();
    caller
}

fn send(caller: &mut Caller, now: Now) {
    caller.transmit(now, &mut Vec::new(), usize::MAX);
}

#[test]
fn before_the_callee_has_spoken_nothing_is_called() {
    let mut caller = Caller::new(Now::ZERO, &limits());
    assert_eq!(caller.begin(Now::ZERO, call(1)), Err(CallError::NotConnected));
}

#[test]
fn a_cancelled_call_counts_until_it_is_answered() {
    let mut caller = caller();
    let (first, _) = (caller.begin(SOON, call(1)).unwrap(), caller.begin(SOON, call(1)).unwrap());
    send(&mut caller, SOON);
    caller.cancel(first);
    assert_eq!(caller.begin(SOON, call(1)), Err(CallError::Crowded));
    caller.receive(SOON, first, ToCaller::Reply(Answer::default())).unwrap();
    assert!(matches!(caller.event(), Some(CallerEvent::Unwanted(_))));
    caller.begin(SOON, call(1)).unwrap();
}

#[test]
fn a_call_that_was_not_sent_is_surely_not_begun() {
    let mut caller = caller();
    let first = caller.begin(SOON, call(1)).unwrap();
    send(&mut caller, SOON);
    let second = caller.begin(SOON, call(1)).unwrap();
    let mut lost = caller.lost();
    lost.sort_by_key(|(id, _)| *id);
    assert_eq!(lost, [(first, CallError::Lost { sent: true }), (second, CallError::Lost { sent: false })]);
    assert!(!lost[0].1.retryable() && lost[1].1.retryable());
}

#[test]
fn answers_to_nothing_are_violations() {
    let mut caller = caller();
    let id = caller.begin(SOON, call(1)).unwrap();
    let reply = || ToCaller::Reply(Answer::default());
    assert_eq!(caller.receive(SOON, id, reply()), Err(Violation::NotOut));
    send(&mut caller, SOON);
    caller.receive(SOON, id, reply()).unwrap();
    assert_eq!(caller.receive(SOON, id, reply()), Err(Violation::NotOut));
    assert_eq!(caller.receive(SOON, 77, ToCaller::Pong), Err(Violation::NotAsked));
}

#[test]
fn calls_end_with_their_time_and_lanes_with_silence() {
    let mut caller = caller();
    let id = caller.begin(Now::ZERO, call(1)).unwrap();
    assert!(caller.wake_at() <= PING_EVERY);
    assert!(caller.tick(Duration::from_secs(1)));
    assert_eq!(caller.event(), Some(CallerEvent::Late(id)));
    assert!(!caller.tick(SILENCE_MAX));
    caller.heard(SILENCE_MAX);
    assert!(caller.tick(SILENCE_MAX));
}

#[test]
fn a_callee_answers_each_call_once_and_refuses_what_it_cannot_hold() {
    let mut callee = Callee::new(Now::ZERO, &limits());
    callee.receive(SOON, 1, ToCallee::Call(call(1))).unwrap();
    assert_eq!(callee.event(), Some(CalleeEvent::Begin(1, call(1))));
    callee.receive(SOON, 2, ToCallee::Call(call(1))).unwrap();
    assert_eq!((callee.event(), callee.running()), (None, 1));
    assert_eq!(callee.receive(SOON, 3, ToCallee::Call(call(1))), Err(Violation::Flood));
    let refused: Vec<Answer> = callee.lost().collect();
    assert_eq!(refused[0].kind, AnswerKind::Refused);
    assert!(refused[0].kind.retryable());
    assert!(callee.answer(1, Answer::default()) && !callee.answer(1, Answer::default()));
}

#[test]
fn numbers_rise() {
    let mut callee = Callee::new(Now::ZERO, &limits());
    callee.receive(SOON, 5, ToCallee::Call(call(1))).unwrap();
    assert_eq!(callee.receive(SOON, 5, ToCallee::Call(call(1))), Err(Violation::Number));
    assert_eq!(callee.receive(SOON, 6, ToCallee::Cancel), Err(Violation::Number));
    callee.receive(SOON, 4, ToCallee::Cancel).unwrap();
}

#[test]
fn a_callee_that_drains_refuses_and_says_so() {
    let (mut callee, mut caller) = (Callee::new(Now::ZERO, &limits()), caller());
    callee.drain();
    callee.receive(SOON, 1, ToCallee::Call(call(1))).unwrap();
    assert_eq!(
        (callee.event(), callee.lost().next().map(|answer| answer.kind)),
        (None, Some(AnswerKind::Refused))
    );
    caller.receive(SOON, 0, ToCaller::GoAway).unwrap();
    assert_eq!(caller.begin(SOON, call(1)), Err(CallError::Draining));
}

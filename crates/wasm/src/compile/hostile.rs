//! Components of somebody up to no good: what would make the compiler run wild is refused before it runs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::smith::{Tally, survived};
use super::*;
use crate::check::CheckError;

/// How long one may take, in a build for tests.
const TIME_MAX: Duration = Duration::from_secs(30);

/// What makes a component one that serves: its handler is a function of the module `$m`.
const SERVES: &str = r#"
    (core module $m (func (export "f")) (memory (export "memory") 1 2))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f")))
    (instance $h (export "handle" (func $f)))
    (export "wasi:http/incoming-handler@0.2.3" (instance $h))"#;

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {text} {SERVES})")).unwrap_or_else(|error| panic!("{error}"))
}

/// Two components with a memory each, one of which calls the other with strings, lists and resources; modules with tables and
/// starts; what the compiler makes to go between them.
fn rich() -> Vec<u8> {
    component(
        r#"
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type (sub resource)))
            (export "poll" (func (param "in" (list u32)) (result (list u32))))))
        (component $callee
            (core module $m
                (memory (export "memory") 1 4)
                (table 4 funcref) (elem (i32.const 1) func $start) (start $start) (func $start)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                (func (export "say") (param i32 i32 i32 i32) (result i32) (i32.const 16))
                (func (export "make") (result i32) (i32.const 7)))
            (core instance $i (instantiate $m))
            (type $kept (resource (rep i32)))
            (core func $new (canon resource.new $kept))
            (export $shown "kept" (type $kept))
            (func (export "say") (param "text" string) (param "more" (list (tuple u8 string)))
                (result (result string (error (list u64))))
                (canon lift (core func $i "say") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
        (instance $callee (instantiate $callee))
        (component $caller
            (import "say" (func $say (param "text" string) (param "more" (list (tuple u8 string)))
                (result (result string (error (list u64))))))
            (core module $libc
                (memory (export "memory") 1 4)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 128)))
            (core instance $libc (instantiate $libc))
            (core func $lowered (canon lower (func $say) string-encoding=utf16
                (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
            (core module $m
                (import "" "say" (func $say (param i32 i32 i32 i32 i32)))
                (func (export "go") (call $say (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 32))))
            (core instance $i (instantiate $m (with "" (instance (export "say" (func $lowered))))))
            (func (export "go") (canon lift (core func $i "go"))))
        (instance $caller (instantiate $caller (with "say" (func $callee "say"))))"#,
    )
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % bound as u64).unwrap()
    }
}

#[test]
fn glue_between_two_memories_compiles() {
    let mut tally = Tally::default();
    survived(&rich(), "rich", &mut tally);
    assert_eq!(tally.compiled, 1);
}

#[test]
fn damaged_components_are_survived() {
    let (good, begin, mut tally) = (rich(), Instant::now(), Tally::default());
    for seed in 0..20_000 {
        let (mut draw, mut bytes) = (Draw(seed), good.clone());
        for _ in 0..=draw.below(3) {
            let at = 8 + draw.below(bytes.len() - 8);
            match draw.below(5) {
                0 => bytes[at] = u8::try_from(draw.below(256)).unwrap(),
                1 => bytes[at] ^= 1 << draw.below(8),
                2 => bytes[at] = bytes[at].wrapping_add(1),
                3 => bytes.truncate(at.max(10)),
                _ => {
                    // A part of it once more, over something else: sections and indices that fit half.
                    let from = draw.below(bytes.len());
                    let len = draw.below(24).min(bytes.len() - at.max(from));
                    bytes.copy_within(from..from + len, at);
                }
            }
        }
        survived(&bytes, &format!("damaged, seed {seed}"), &mut tally);
        if begin.elapsed() > Duration::from_secs(6) {
            println!("the time was up after seed {seed}");
            break;
        }
    }
    println!("{tally:?}");
    assert!(tally.refused > 100 && tally.compiled > 10, "{tally:?}");
}

/// Refused in time, with these words.
#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let begin = Instant::now();
    let error = check(bytes).unwrap_err().to_string();
    assert!(error.contains(part), "{part:?} is not in: {error}");
    assert!(begin.elapsed() < TIME_MAX, "{:?}: {error}", begin.elapsed());
}

/// Taken or not: in time, at any rate.
#[track_caller]
fn bounded(bytes: &[u8], what: &str) -> Tally {
    let (begin, mut tally) = (Instant::now(), Tally::default());
    survived(bytes, what, &mut tally);
    println!("{what}: {} bytes, {tally:?}, {:?}", bytes.len(), begin.elapsed());
    assert!(begin.elapsed() < TIME_MAX, "{what}: {:?}", begin.elapsed());
    tally
}

/// Each component instantiates the one before it twice.
fn doubled(levels: u32) -> String {
    let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 1..=levels {
        let before = level - 1;
        let _ = write!(
            text,
            "(component $c{level} (alias outer 1 $c{before} (component $d))
                (instance (instantiate $d)) (instance (instantiate $d)))"
        );
    }
    text + &format!("(instance (instantiate $c{levels}))")
}

#[test]
fn instances_that_double_at_each_level_are_counted() {
    assert_eq!(bounded(&component(&doubled(10)), "doubled ten times").compiled, 1);
    for levels in [13, 30, 60, 200] {
        refused(&component(&doubled(levels)), "instances of modules and components");
    }
    // By an index that an export gave.
    let exported = r#"(component $a (core module $m (memory 1)) (core instance (instantiate $m)))
        (export $b "b" (component $a))
        (component $c (alias outer 1 $b (component $d))
            (instance (instantiate $d)) (instance (instantiate $d)) (instance (instantiate $d)))
        (instance (instantiate $c)) (instance (instantiate $c)) (instance (instantiate $c))"#;
    refused(&component(exported), "9 memories");
}

#[test]
fn many_instances_compile_in_time() {
    let instances = "(core instance (instantiate $n))".repeat(990);
    bounded(&component(&format!("(core module $n (func (export \"g\"))) {instances}")), "many instances");
    let memories = "(core instance (instantiate $n))".repeat(8);
    refused(&component(&format!("(core module $n (memory 1)) {memories}")), "9 memories");
}

#[test]
fn modules_and_components_from_elsewhere_are_refused() {
    for (text, what) in [
        (r#"(component $a (import "x" (component)))"#, "component"),
        (r#"(component $a (import "x" (core module)))"#, "module"),
        (
            r#"(component $a (core module (export "m"))) (instance $a (instantiate $a))
               (alias export $a "m" (core module $n)) (core instance (instantiate $n))"#,
            "module",
        ),
        (
            r#"(component $a (component (export "c"))) (instance $a (instantiate $a))
               (alias export $a "c" (component $n)) (instance (instantiate $n))"#,
            "component",
        ),
    ] {
        let error = check(&component(text)).unwrap_err();
        assert_eq!(error, CheckError::Elsewhere { what });
    }
}

fn leb(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

fn with_section(id: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.push(id);
    leb(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// The parser goes down by calls of its own.
#[test]
fn types_within_types_without_end_are_refused() {
    let all = || {
        for (levels, kind) in
            [90, 490, 10_000, 3_000_000].into_iter().flat_map(|levels| [(levels, 0x41), (levels, 0x42)])
        {
            let body: Vec<u8> = [1].into_iter().chain([kind, 1, 1].repeat(levels)).collect();
            let bytes = with_section(7, &body);
            assert!(check(&bytes).is_err());
            if levels > 1000 {
                refused(&bytes, "types within types");
            }
        }
    };
    // A stack such as a program's first thread has.
    std::thread::Builder::new().stack_size(8 << 20).spawn(all).unwrap().join().unwrap();
}

#[test]
fn huge_type_sections_are_bounded() {
    let many = (0..200_000).fold(String::new(), |mut text, _| {
        text.push_str("(type (list u8))");
        text
    });
    bounded(&component(&many), "many types");
    // Each twice as large as the one before: the validator bounds the size of a type.
    let doubled = |levels: u32| {
        (1..=levels).fold("(type $t0 (tuple u8 string))".to_owned(), |text, level| {
            text + &format!("(type $t{level} (tuple $t{0} $t{0}))", level - 1)
        })
    };
    refused(&component(&doubled(40)), "effective type size exceeds the limit");
    // A function of such a type, called from one component to the other.
    for levels in [6, 12, 16] {
        let types = doubled(levels);
        let text = format!(
            r#"(component $a
                {types}
                (core module $m (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                    (func (export "f") (param i32)))
                (core instance $i (instantiate $m))
                (func (export "f") (param "x" $t{levels})
                    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
            (instance $a (instantiate $a))
            (component $b
                {types}
                (import "f" (func $f (param "x" $t{levels})))
                (core module $libc (memory (export "memory") 1))
                (core instance $libc (instantiate $libc))
                (core func $g (canon lower (func $f) (memory (core memory $libc "memory"))))
                (core module $m (import "" "g" (func (param i32))))
                (core instance (instantiate $m (with "" (instance (export "g" (func $g)))))))
            (instance (instantiate $b (with "f" (func $a "f"))))"#
        );
        bounded(&component(&text), &format!("a type of 2^{levels}"));
    }
}

#[test]
fn components_within_components_without_end_are_refused() {
    let nested = |levels: usize| {
        // From the inside out: a section of kind 4 has a component within.
        (0..levels).fold(component(""), |inner, _| with_section(4, &inner))
    };
    refused(&nested(200), "exports none of");
    refused(&nested(300), "modules and components");
    refused(&nested(20_000), "modules and components");
}

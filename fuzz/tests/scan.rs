//! The scanner: any bytes, thick with what forbidden encodings are made of, against a matcher that looks at every offset.

use baton_cell::scan::{Finding, Forbidden, disarm, scan};
use baton_fuzz::{INPUT_BYTES_MAX, Source};

/// Bytes that begin, go on or end a forbidden encoding.
const LIKELY: &[u8] = &[0x0f, 0x0f, 0x01, 0xef, 0xae, 0xc7, 0xd5, 0x80, 0x28, 0x68, 0xa8, 0xd0, 0xd8, 0x18];

fn matches(code: &[u8]) -> Option<Forbidden> {
    let rest = match code {
        [0x0f, rest @ ..] | [0xd5, 0x80..=0xff, rest @ ..] => rest,
        _ => return None,
    };
    match rest {
        [0x01, 0xef, ..] => Some(Forbidden::WritePkru),
        [0xae, 0x28..=0x2f | 0x68..=0x6f | 0xa8..=0xaf, ..] => Some(Forbidden::RestoreState),
        [0xc7, 0x18..=0x1f | 0x58..=0x5f | 0x98..=0x9f, ..] => Some(Forbidden::RestoreSupervisorState),
        [0xae, 0xd0..=0xd7, ..] => Some(Forbidden::WriteFsBase),
        [0xae, 0xd8..=0xdf, ..] => Some(Forbidden::WriteGsBase),
        _ => None,
    }
}

fn check(code: &mut [u8]) {
    let expected: Vec<Finding> = (0..code.len())
        .filter_map(|offset| matches(&code[offset..]).map(|what| Finding { offset, what }))
        .collect();
    assert_eq!(scan(code).collect::<Vec<_>>(), expected);
    for finding in expected {
        if disarm(code, finding.offset).is_ok() {
            assert_eq!(matches(&code[finding.offset..]), None);
        }
    }
}

#[test]
fn scan_finds_what_is_there() {
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        check(&mut input.to_vec());
        let mut source = Source::new(input);
        let mut code = Vec::new();
        while !source.is_empty() {
            match source.byte() {
                byte @ 0..=179 => code.push(LIKELY[usize::from(byte) % LIKELY.len()]),
                // Stretches of nothing, as long as the steps of a fast scanner.
                byte @ 180..=199 => code.resize(code.len() + usize::from(byte - 170) * 8, 0),
                _ => code.push(source.byte()),
            }
        }
        check(&mut code);
    });
}

//! The scanner against a table of encodings written out by hand, at every place where a pattern could hide.

use proptest::prelude::*;

use super::filter::STRIDE;
use super::*;

/// Every `ModRM` byte with this register field, in memory or register form.
fn operands(register: u8, is_memory: bool) -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(move |byte| (byte & 0x38) == register << 3 && (*byte < 0xc0) == is_memory)
}

/// All forbidden opcodes with their operand byte, without what stands before them.
fn opcodes() -> Vec<([u8; 2], Forbidden)> {
    let mut all = vec![([0x01, 0xef], Forbidden::WritePkru)];
    all.extend(operands(5, true).map(|operand| ([0xae, operand], Forbidden::RestoreState)));
    all.extend(operands(3, true).map(|operand| ([0xc7, operand], Forbidden::RestoreSupervisorState)));
    all.extend(operands(2, false).map(|operand| ([0xae, operand], Forbidden::WriteFsBase)));
    all.extend(operands(3, false).map(|operand| ([0xae, operand], Forbidden::WriteGsBase)));
    all
}

/// All forbidden byte strings.
fn patterns() -> Vec<(Vec<u8>, Forbidden)> {
    let mut all = Vec::new();
    for (opcode, what) in opcodes() {
        all.push(([&[0x0f], opcode.as_slice()].concat(), what));
        for payload in [0x80, 0x88, 0xff] {
            all.push(([&[0xd5, payload], opcode.as_slice()].concat(), what));
        }
    }
    all
}

fn oracle(code: &[u8], patterns: &[(Vec<u8>, Forbidden)]) -> Vec<Finding> {
    let at = |offset: usize| patterns.iter().find(|(pattern, _)| code[offset..].starts_with(pattern));
    (0..code.len()).filter_map(|offset| at(offset).map(|&(_, what)| Finding { offset, what })).collect()
}

fn found(code: &[u8]) -> Vec<Finding> {
    scan(code).collect()
}

#[test]
fn every_forbidden_encoding_is_found_at_every_offset() {
    // Bytes around it that begin encodings themselves, and bytes that do not.
    for filler in [0x00, 0x0f, 0x90, 0xd5, 0xae] {
        for (pattern, what) in patterns() {
            for offset in 0..2 * STRIDE + 4 {
                let mut code = vec![filler; 3 * STRIDE];
                code[offset..offset + pattern.len()].copy_from_slice(&pattern);
                assert!(found(&code).contains(&Finding { offset, what }), "{pattern:x?} at {offset}");
            }
        }
    }
}

#[test]
fn an_encoding_at_the_very_end_is_found_and_a_cut_off_one_is_not() {
    for (pattern, what) in patterns() {
        for before in 0..2 * STRIDE {
            let code = [vec![0x90; before], pattern.clone()].concat();
            assert_eq!(found(&code), [Finding { offset: before, what }]);
            assert_eq!(found(&code[..code.len() - 1]), []);
        }
    }
}

#[test]
fn prefixes_hide_nothing() {
    for prefix in [0x48, 0x66, 0xf3, 0xf2, 0x2e, 0x67, 0xf0] {
        assert_eq!(found(&[prefix, 0x0f, 0x01, 0xef]), [Finding { offset: 1, what: Forbidden::WritePkru }]);
    }
    let wrfsbase = [0xf3, 0x48, 0x0f, 0xae, 0xd0];
    assert_eq!(found(&wrfsbase), [Finding { offset: 2, what: Forbidden::WriteFsBase }]);
}

#[test]
fn an_encoding_within_another_instruction_is_found() {
    // mov $0xef010f, %eax
    let findings = found(&[0xb8, 0x0f, 0x01, 0xef, 0x00]);
    assert_eq!(findings, [Finding { offset: 1, what: Forbidden::WritePkru }]);
}

#[test]
fn neighbours_of_the_forbidden_encodings_are_let_through() {
    let harmless: &[&[u8]] = &[
        &[0x0f, 0x01, 0xee],                   // rdpkru
        &[0x0f, 0x01, 0xd0],                   // xgetbv
        &[0x0f, 0xae, 0x4c, 0x24, 0x40],       // fxrstor
        &[0x0f, 0xae, 0x64, 0x24, 0x40],       // xsave
        &[0x0f, 0xc7, 0x64, 0x24, 0x40],       // xsavec
        &[0x0f, 0xae, 0xe8],                   // lfence
        &[0x0f, 0xae, 0x54, 0x24, 0x08],       // ldmxcsr
        &[0x0f, 0xae, 0x1c, 0x24],             // stmxcsr
        &[0xf3, 0x0f, 0xae, 0xc0],             // rdfsbase
        &[0xf3, 0x0f, 0xae, 0xc9],             // rdgsbase
        &[0xf3, 0x0f, 0xae, 0xe8],             // incsspd
        &[0x66, 0x0f, 0xae, 0x38],             // clflushopt
        &[0x0f, 0xc7, 0x0f],                   // cmpxchg8b
        &[0x0f, 0xc7, 0xf0],                   // rdrand
        &[0x0f, 0xc7, 0xd8],                   // not an instruction
        &[0xd5, 0x7f, 0x01, 0xef],             // add, with a prefix that keeps the one-byte map
        &[0x0f, 0x05],                         // syscall
        &[0xc7, 0xf8, 0x00, 0x00, 0x00, 0x00], // xbegin
        &[0xcb],                               // far return
    ];
    for code in harmless {
        assert_eq!(found(code), [], "{code:x?}");
        assert_eq!(disarm(&mut code.to_vec(), 0), Err(DisarmError::NotForbidden { offset: 0 }));
    }
}

#[test]
fn nothing_is_found_in_nothing() {
    assert_eq!(found(&[]), []);
    assert_eq!(found(&[0x0f]), []);
    assert_eq!(found(&vec![0; 1 << 16]), []);
    assert_eq!(found(&vec![0x0f; 1 << 16]), []);
}

#[test]
fn a_disarmed_instruction_faults_and_what_follows_is_untouched() {
    let check = |instruction: &[u8]| {
        let mut code = [&[0x90; 3], instruction, &[0x55; 9]].concat();
        disarm(&mut code, 3).unwrap();
        let len = instruction.len();
        assert_eq!(code[3..5], [0x0f, 0x0b]);
        assert!(code[5..3 + len].iter().all(|byte| *byte == 0xcc));
        assert_eq!((&code[..3], &code[3 + len..]), (&[0x90; 3][..], &[0x55; 9][..]));
        assert_eq!(found(&code), []);
    };
    check(&[0x0f, 0x01, 0xef]);
    check(&[0xf, 0xae, 0x28]);
    check(&[0x0f, 0xae, 0x6c, 0x24, 0x40]);
    check(&[0x0f, 0xae, 0xac, 0x24, 1, 2, 3, 4]);
    check(&[0x0f, 0xae, 0x2d, 1, 2, 3, 4]);
    check(&[0x0f, 0xae, 0x2c, 0x25, 1, 2, 3, 4]);
    check(&[0xd5, 0x80, 0xae, 0x6c, 0x24, 0x40]);
}

#[test]
fn what_is_cut_off_or_not_there_is_not_disarmed() {
    let mut code = [0x90, 0x0f, 0xae, 0xac, 0x24, 1, 2, 3];
    assert_eq!(disarm(&mut code, 1), Err(DisarmError::CutOff { offset: 1, len: 8 }));
    assert_eq!(disarm(&mut code, 0), Err(DisarmError::NotForbidden { offset: 0 }));
    assert_eq!(disarm(&mut code, usize::MAX), Err(DisarmError::NotForbidden { offset: usize::MAX }));
    assert_eq!(code, [0x90, 0x0f, 0xae, 0xac, 0x24, 1, 2, 3]);
}

/// Bytes as they come, with those that forbidden encodings are made of far more often than by chance.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let likely = vec![0x0f, 0x0f, 0x01, 0xef, 0xae, 0xc7, 0xd5, 0x80, 0x28, 0xd0, 0xd8, 0x18, 0x6c];
    let byte = prop_oneof![3 => prop::sample::select(likely), 1 => any::<u8>()];
    prop::collection::vec(byte, 0..4 * STRIDE)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_scanner_finds_what_the_table_says_and_nothing_else(code in bytes()) {
        let patterns = patterns();
        // Payloads that the table does not list are found by the rule alone.
        let is_listed = |finding: &Finding| {
            code[finding.offset] == 0x0f || matches!(code[finding.offset + 1], 0x80 | 0x88 | 0xff)
        };
        let findings: Vec<_> = scan(&code).filter(is_listed).collect();
        prop_assert_eq!(findings, oracle(&code, &patterns));
    }

    #[test]
    fn planted_encodings_are_found_wherever_they_lie(
        before in prop::collection::vec(any::<u8>(), 0..9000),
        after in prop::collection::vec(any::<u8>(), 0..300),
        pick in any::<prop::sample::Index>(),
    ) {
        let patterns = patterns();
        let (pattern, what) = &patterns[pick.index(patterns.len())];
        let code = [before.as_slice(), pattern, &after].concat();
        let planted = Finding { offset: before.len(), what: *what };
        prop_assert!(scan(&code).any(|finding| finding == planted));
    }

    #[test]
    fn disarming_every_finding_leaves_none_of_them(mut code in bytes()) {
        // Findings overlap here: one may be gone once another is disarmed.
        for finding in found(&code) {
            let result = disarm(&mut code, finding.offset);
            prop_assert!(result.is_err() || begins(&code[finding.offset..]).is_none());
        }
    }
}

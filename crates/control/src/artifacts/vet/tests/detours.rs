//! Programs with forbidden encodings by chance: rewritten they do what they did, or they are refused.

use std::os::unix::fs::FileExt;

use super::*;

const CHANCES: &str = include_str!("chances.c");

/// Writes the patches into a program's file. What they write behind a segment's last byte is in its last page as well when
/// a kernel maps it, since linkers leave the rest of the page empty.
fn patch_file(program: &Path, patches: &[Patch]) {
    let bytes = std::fs::read(program).unwrap();
    let image = Image::parse(&bytes).unwrap();
    let file = std::fs::File::options().write(true).open(program).unwrap();
    for patch in patches {
        let holds = |segment: &&baton_cell::elf::Segment| segment.pages().contains(&patch.at());
        let segment = image.executable().find(holds).unwrap();
        let offset = usize::try_from(segment.offset + (patch.at() - segment.at)).unwrap();
        if patch.at() >= segment.end() {
            let spare = &bytes[offset..offset + patch.bytes().len()];
            assert!(spare.iter().all(|byte| *byte == 0), "the linker leaves no room in the file");
        }
        file.write_all_at(patch.bytes(), offset as u64).unwrap();
    }
}

fn output(program: &Path) -> String {
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The texts of the instructions that hold what the scan finds, in a program that is not patched.
fn chances(file: &[u8]) -> Vec<String> {
    let (image, symbols) = (Image::parse(file).unwrap(), Symbols::read(file));
    let range = image.code().next().unwrap();
    let code = Code::lay(file, &image, range.start, range.end);
    let looks = scan::scan(&code.bytes).map(|found| {
        match decode::look(&code, code.address(found.offset), found.what, &symbols) {
            Context::Part { text } => Some(text.split(' ').next().unwrap().to_owned()),
            _ => None,
        }
    });
    looks.flatten().collect()
}

#[test]
fn a_rewritten_program_does_what_it_did() {
    for optimised in ["-O2", "-O0"] {
        let (_directory, program) = compile(CHANCES, &[optimised, "-static-pie"]);
        let before = output(&program);
        assert!(
            before.starts_with("1 11 14 01 13 42 44 ef0110 ef010f12345678 ffffffffffef010f "),
            "{before}"
        );
        let file = std::fs::read(&program).unwrap();
        let mut kinds = chances(&file);
        kinds.sort();
        let expected = [
            "call", "callq", "cmp", "je", "jmp", "jmpq", "lea", "mov", "mov", "mov", "mov", "mov", "mov",
            "mov", "movabs", "movdqu",
        ];
        assert_eq!(kinds, expected);
        let vetted = vet(&file).unwrap();
        assert_eq!(vetted.patches.len(), 2 + 2 * expected.len(), "{vetted:x?}");
        patched_and_clean(&file, &vetted.patches);
        patch_file(&program, &vetted.patches);
        assert!(chances(&std::fs::read(&program).unwrap()).is_empty());
        assert_eq!(output(&program), before);
        assert_eq!(vet(&std::fs::read(&program).unwrap()), Ok(Vetted { patches: vec![] }));
    }
}

/// The patches of a program with a function of these instructions, and the program's code with them.
fn rewritten(assembly: &str) -> (Vec<Patch>, u64) {
    let file = with_function(assembly);
    let vetted = vet(&file).unwrap_or_else(|error| panic!("{assembly}: {error}"));
    patched_and_clean(&file, &vetted.patches);
    let symbols = Symbols::read(&file);
    let guest = symbols.iter().find(|symbol| symbols.name(symbol) == "guest").unwrap();
    (vetted.patches, guest.at)
}

#[test]
fn one_detour_leads_around_all_that_an_instruction_holds() {
    let (patches, guest) = rewritten("movabs $0xef010f00ef010f,%rdx\nret");
    assert_eq!(patches.len(), 2);
    assert_eq!((patches[0].at(), patches[0].bytes().len(), patches[0].bytes()[0]), (guest, 10, 0xe9));
    assert_eq!(patches[0].bytes()[5..], [0xcc; 5]);
}

#[test]
fn trampolines_lie_behind_each_other() {
    let constants = "mov $0xef010f,%eax\nmov $0xef010f,%ecx\nmov $0xef010f,%r9d\nret";
    let (patches, _) = rewritten(constants);
    let trampolines: Vec<&Patch> = patches.iter().skip(1).step_by(2).collect();
    let ends = |pair: &[&Patch]| pair[0].at() + pair[0].bytes().len() as u64 == pair[1].at();
    assert!(trampolines.len() == 3 && trampolines.windows(2).all(ends), "{patches:x?}");
}

#[test]
fn prefixes_stay_where_they_matter() {
    let bytes = |assembly: &str| rewritten(assembly).0[1].bytes().to_vec();
    let locked = bytes("lock orl $1,0xef010f(%rip)\nret");
    assert_eq!((locked[..3].to_vec(), locked[7]), (vec![0xf0, 0x83, 0x0d], 1));
    assert_eq!(bytes("notrack jmp *0xef010f(%rip)")[..3], [0x3e, 0xff, 0x25]);
    let immediate = bytes("movl $0x12345678,0xef010f(%rip)\nret");
    assert_eq!((&immediate[..2], &immediate[6..10]), (&[0xc7, 0x05][..], &[0x78, 0x56, 0x34, 0x12][..]));
}

#[test]
fn a_trampoline_whose_distance_holds_an_encoding_begins_a_byte_later() {
    // As far from the constant to the end of the code as the bytes of `xrstors` are.
    let source = "void _start(void) { for (;;); }\n\
        asm(\".type guest,@function\\nguest: mov $0xef010f,%eax\\nret\\n.size guest,.-guest\\n\
        .org guest + 5 + 0x18c70f\\n\");\n";
    let file = c(source, &[BARE, &["-fno-toplevel-reorder"]].concat());
    let vetted = vet(&file).unwrap();
    let [place, trampoline] = vetted.patches.as_slice() else { panic!("{vetted:x?}") };
    assert_eq!(place.bytes(), [0xe9, 0x10, 0xc7, 0x18, 0x00]);
    assert_eq!(trampoline.at(), place.at() + 5 + 0x18_c710);
    patched_and_clean(&file, &vetted.patches);
}

/// Instructions that hold an encoding by chance and are refused; `expected` begins the text of the one that holds it.
fn kept(assembly: &str, expected: &str) {
    let file = with_function(assembly);
    kept_in(&file, expected);
}

fn kept_in(file: &[u8], expected: &str) {
    let objection = refusal(file);
    let Objection::Forbidden { context: Context::Part { text }, place, .. } = &objection else {
        panic!("{objection}")
    };
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(place.symbol.as_ref().unwrap().name.as_ref(), "guest");
    assert!(objection.remedy().starts_with("the bytes are there by chance: change the constant"));
}

#[test]
fn an_instruction_that_cannot_be_led_around_is_refused() {
    kept("cmp $0xef010f,%eax\nret", "cmp $0xEF010F,%eax");
    kept("movl $0xef010f,8(%rdi)\nret", "movl $0xEF010F,8(%rdi)");
    kept("lea 0xef010f(%rdi),%rax\nret", "lea 0xEF010F(%rdi),%rax");
    kept("lea 0xef010f(%eip),%rax\nret", "lea 0x");
    kept("push $0xef010f\nret", "push $0xEF010F");
    kept("call *0xef010f(%rdi)\nret", "callq *0x");
    // Neither of the two has room for a jump.
    kept("jmp .+17\nadd %ebp,%edi\n.fill 17,1,0x90\nret", "jmp 0x");
}

#[test]
fn an_instruction_that_is_entered_in_the_middle_is_refused() {
    kept("cmp $1,%edi\nje 1f+1\n1: lock orl $1,0xef010f(%rip)\nret", "lock orl $1,0x");
    // From another function as well.
    let source = "asm(\".type guest,@function\\nguest: lock orl $1,0xef010f(%rip)\\nret\\n.size guest,.-guest\\n\
        .type other,@function\\nother: jmp guest+1\\n.size other,.-other\\n\");\n\
        void _start(void) { for (;;); }\n";
    kept_in(&c(source, BARE), "lock orl $1,0x");
}

#[test]
fn a_function_that_cannot_be_read_to_its_end_is_left_as_it_is() {
    // 0x06 is no instruction in 64-bit mode.
    kept("mov $0xef010f,%eax\nret\n.byte 0x06", "mov $0xEF010F,%eax");
    let source = "asm(\".type guest,@function\\nguest: mov $0xef010f,%eax\\nret\\n\");\n\
        void _start(void) { for (;;); }\n";
    kept_in(&c(source, BARE), "mov $0xEF010F,%eax");
}

#[test]
fn code_that_fills_its_pages_has_no_room_for_trampolines() {
    let source = "void _start(void) { for (;;); }\n\
        asm(\".type guest,@function\\nguest: mov $0xef010f,%eax\\nret\\n.size guest,.-guest\\n\
        .balign 4096,0xcc\\n\");\n";
    kept_in(&c(source, &[BARE, &["-fno-toplevel-reorder"]].concat()), "mov $0xEF010F,%eax");
}

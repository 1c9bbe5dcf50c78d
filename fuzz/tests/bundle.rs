//! Bundles of files: any bytes are refused, or are the one bundle of the files that they are read as.

use baton_cell::bundle::{self, Bundle};
use baton_fuzz::{INPUT_BYTES_MAX, Source};

const NAMES: &[&str] =
    &["a", "a/b", "a.b", "a/b/c", "b", "..", "a/../b", "/a", "a/", "", ".", "a//b", "\0", "\u{fffd}", "z"];

/// A bundle as a liar would write it: a head over any names, and numbers that are off.
fn liar(source: &mut Source<'_>) -> Vec<u8> {
    let count = usize::from(source.byte() % 8);
    let names: Vec<&str> = (0..count).map(|_| NAMES[usize::from(source.byte()) % NAMES.len()]).collect();
    let mut out = b"BATONFS1".to_vec();
    let lie = |source: &mut Source<'_>, truth: u64| match source.byte() {
        0..=239 => truth,
        240..=247 => truth.wrapping_add(1),
        _ => source.word(),
    };
    let word = |value: u64| value.to_le_bytes()[..4].to_vec();
    let names_len: usize = names.iter().map(|name| name.len()).sum();
    out.extend(word(lie(source, count as u64)));
    out.extend(word(lie(source, names_len as u64)));
    let (mut name_end, mut content_end) = (0, 0);
    for name in &names {
        name_end += name.len() as u64;
        content_end += u64::from(source.byte() % 4);
        out.extend(word(lie(source, name_end)));
        out.extend(word(lie(source, 0)));
        out.extend(lie(source, content_end).to_le_bytes());
    }
    names.iter().for_each(|name| out.extend(name.as_bytes()));
    let content_end = lie(source, content_end).min(64);
    out.extend(std::iter::repeat_n(b'x', usize::try_from(content_end).unwrap()));
    out
}

fn check(bytes: &[u8]) {
    let bundle = match Bundle::parse(bytes) {
        Ok(bundle) => bundle,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let files = || (0..bundle.count()).map(|index| (bundle.name(index), bundle.content(index)));
    let lens: Vec<(&str, u64)> = files().map(|(name, content)| (name, content.len() as u64)).collect();
    let mut again = bundle::head(&lens).expect("was one");
    files().for_each(|(_, content)| again.extend(content));
    assert_eq!(again, bytes);
    for (name, _) in files() {
        assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0')));
    }
}

#[test]
fn bundle() {
    baton_fuzz::fuzz(INPUT_BYTES_MAX, |input| {
        check(input);
        check(&liar(&mut Source::new(input)));
    });
}

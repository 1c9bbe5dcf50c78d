//! What is packed is found again, and bytes of others are bundles only if they are what packing makes.

use proptest::prelude::*;

use super::*;

fn pack(files: &[(&str, &[u8])]) -> Result<Vec<u8>, BundleError> {
    let lens: Vec<(&str, u64)> = files.iter().map(|(name, bytes)| (*name, bytes.len() as u64)).collect();
    let mut bundle = head(&lens)?;
    files.iter().for_each(|(_, bytes)| bundle.extend_from_slice(bytes));
    Ok(bundle)
}

fn sample() -> Vec<u8> {
    pack(&[("a", b"one"), ("a.txt", b""), ("b/c", &[7; 5000]), ("b/d/e", b"x")]).unwrap()
}

/// A bundle that says what it wants.
fn forged(files: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let names: usize = files.iter().map(|(name, _)| name.len()).sum();
    out.extend(u32::try_from(files.len()).unwrap().to_le_bytes());
    out.extend(u32::try_from(names).unwrap().to_le_bytes());
    let (mut name_end, mut content_end) = (0, 0);
    for (name, content) in files {
        name_end += name.len();
        content_end += content.len();
        out.extend(u32::try_from(name_end).unwrap().to_le_bytes());
        out.extend([0; 4]);
        out.extend((content_end as u64).to_le_bytes());
    }
    files.iter().for_each(|(name, _)| out.extend_from_slice(name));
    files.iter().for_each(|(_, content)| out.extend_from_slice(content));
    out
}

#[test]
fn what_is_packed_is_found_again() {
    let bytes = sample();
    let bundle = Bundle::parse(&bytes).unwrap();
    let names: Vec<&str> = (0..bundle.count()).map(|index| bundle.name(index)).collect();
    assert_eq!(names, ["a", "a.txt", "b/c", "b/d/e"]);
    assert_eq!((bundle.content(0), bundle.content(1)), (b"one".as_slice(), b"".as_slice()));
    assert_eq!((bundle.content(2), bundle.content(3)), ([7; 5000].as_slice(), b"x".as_slice()));
    assert_eq!((bundle.name(4), bundle.content(4)), ("", b"".as_slice()));
    assert_eq!((bundle.name(usize::MAX / 16), Bundle::NONE.count()), ("", 0));
    assert_eq!(bytes, forged(&[(b"a", b"one"), (b"a.txt", b""), (b"b/c", &[7; 5000]), (b"b/d/e", b"x")]));
}

#[test]
fn names_that_lead_elsewhere_or_meet_are_refused() {
    let check = |names: &[&[u8]], index: usize, fault: NameFault| {
        let files: Vec<(&[u8], &[u8])> = names.iter().map(|name| (*name, b"x".as_slice())).collect();
        let error = Bundle::parse(&forged(&files)).unwrap_err();
        assert_eq!(error, BundleError::Name { index, fault }, "{names:?}");
        assert!(!error.to_string().is_empty());
    };
    for name in [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        ".",
        "./a",
        "a/.",
        "a//b",
        "a/",
        "a\0b",
        "\0",
    ] {
        check(&[name.as_bytes()], 0, NameFault::Part);
    }
    check(&[b"a\xff"], 0, NameFault::Encoding);
    check(&[&[b'a'; 256]], 0, NameFault::TooLong);
    check(
        &["a/".repeat(32).as_bytes().iter().copied().chain(*b"a").collect::<Vec<u8>>().as_slice()],
        0,
        NameFault::TooLong,
    );
    check(&["a".repeat(200).as_bytes(), format!("{}/b", "a".repeat(2000)).as_bytes()], 1, NameFault::TooLong);
    check(&[b"a", b"a"], 1, NameFault::Order);
    check(&[b"b", b"a"], 1, NameFault::Order);
    check(&[b"a", b"a/b"], 1, NameFault::Parent);
    check(&[b"a", b"a-b", b"a.b", b"a/b"], 3, NameFault::Parent);
    check(&[b"a/b", b"a/b/c/d"], 1, NameFault::Parent);
}

#[test]
fn counts_and_lengths_are_held_to() {
    let bytes = sample();
    for cut in 0..bytes.len() {
        assert!(Bundle::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Bundle::parse(&longer).unwrap_err(), BundleError::Length);
    let with = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        Bundle::parse(&bytes).unwrap_err()
    };
    assert_eq!(with(0, b"X"), BundleError::Magic);
    assert_eq!(with(8, &u32::MAX.to_le_bytes()), BundleError::Count { count: u32::MAX as usize });
    assert_eq!(with(8, &[0; 4]), BundleError::Count { count: 0 });
    assert_eq!(with(12, &u32::MAX.to_le_bytes()), BundleError::Length);
    assert_eq!(with(HEAD_BYTES + 4, &[1]), BundleError::Order { index: 0 });
    assert_eq!(with(HEAD_BYTES + 8, &u64::MAX.to_le_bytes()), BundleError::Order { index: 1 });
    let last = HEAD_BYTES + 3 * RECORD_BYTES + 8;
    assert_eq!(with(last, &u64::MAX.to_le_bytes()), BundleError::TooLarge);
    assert_eq!(with(last, &(CONTENT_BYTES_MAX).to_le_bytes()), BundleError::Length);
    assert_eq!(head(&[]), Err(BundleError::Count { count: 0 }));
    assert_eq!(head(&[("a", CONTENT_BYTES_MAX), ("b", 1)]), Err(BundleError::TooLarge));
    assert_eq!(head(&[("a", u64::MAX), ("b", 1)]), Err(BundleError::TooLarge));
    let many: Vec<String> = (0..=FILES_MAX).map(|nth| format!("{nth:05}")).collect();
    let many: Vec<(&str, u64)> = many.iter().map(|name| (name.as_str(), 0)).collect();
    assert!(head(&many[1..]).is_ok());
    assert_eq!(head(&many), Err(BundleError::Count { count: FILES_MAX + 1 }));
}

/// What every accepted bundle keeps to, in other words than the parser's.
fn hold(bytes: &[u8]) {
    let Ok(bundle) = Bundle::parse(bytes) else { return };
    let files: Vec<(&str, &[u8])> =
        (0..bundle.count()).map(|at| (bundle.name(at), bundle.content(at))).collect();
    assert_eq!(pack(&files).as_deref(), Ok(bytes), "one tree has one bundle");
    let names: std::collections::BTreeSet<&str> = files.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), files.len());
    for name in &names {
        assert!(name.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        let parents = name.match_indices('/').map(|(at, _)| &name[..at]);
        assert!(parents.into_iter().all(|parent| !names.contains(parent)), "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_keep_to_the_laws(
        files in prop::collection::btree_map("[ab./-]{0,5}", prop::collection::vec(any::<u8>(), 0..6), 0..6),
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let files: Vec<(&[u8], &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_bytes(), bytes.as_slice())).collect();
        let mut bytes = forged(&files);
        hold(&bytes);
        for (at, value) in lies {
            let at = at.index(bytes.len());
            bytes[at] = value;
            hold(&bytes);
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        hold(&bytes);
    }

    #[test]
    fn contents_that_lie_about_their_head_are_looked_up_with_care(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in 0usize..20,
        names_at in any::<usize>(),
        contents_at in any::<usize>(),
    ) {
        // As if they changed after they were checked.
        let bundle = Bundle { bytes: &bytes, count, names_at, contents_at };
        for index in 0..count + 2 {
            let _ = (bundle.name(index), bundle.content(index));
        }
        bundle.partition(|name| name < b"a".as_slice());
    }
}

//! Sealing and opening, and what is told of a store that does not open.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn secret(name: &str) -> SecretName {
    SecretName::new(name).unwrap()
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text.as_bytes().to_vec()).unwrap()
}

const VALUE: &str = "correct horse battery staple";

fn stored(directory: &Path) -> Store {
    let store = Store::open(&directory.join("state.redb")).unwrap();
    assert_eq!(store.set_secret(&app("shop"), &secret("db"), &value(VALUE), 7).unwrap(), (1, true));
    store
}

fn all_bytes(directory: &Path) -> Vec<u8> {
    let files = fs::read_dir(directory).unwrap();
    files.flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_value_comes_back_after_a_restart_and_is_nowhere_in_the_clear() {
    let directory = tempfile::tempdir().unwrap();
    drop(stored(directory.path()));
    let store = Store::open(&directory.path().join("state.redb")).unwrap();
    assert_eq!(store.secret(&app("shop"), &secret("db")).unwrap().as_slice(), VALUE.as_bytes());
    let bytes = all_bytes(directory.path());
    assert!(contains(&bytes, b"shop/db"), "the row is looked for where it is");
    assert!(!contains(&bytes, VALUE.as_bytes()) && !contains(&bytes, &VALUE.as_bytes()[..12]));
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!contains(&bytes, &hex.as_bytes()[..12]));
    let key = fs::metadata(directory.path().join(KEY_FILE)).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn another_value_is_another_revision_and_the_same_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let store = stored(directory.path());
    assert_eq!(store.set_secret(&app("shop"), &secret("db"), &value(VALUE), 8).unwrap(), (1, false));
    assert_eq!(store.set_secret(&app("shop"), &secret("db"), &value("other"), 9).unwrap(), (2, true));
    assert_eq!(store.secret(&app("shop"), &secret("db")).unwrap().as_slice(), b"other");
    let told = store.secrets().unwrap();
    assert_eq!((told.len(), told[0].revision, told[0].set_ms), (1, 2, 9));
    store.remove_secret(&app("shop"), &secret("db")).unwrap();
    let gone = store.secret(&app("shop"), &secret("db")).unwrap_err();
    assert!(matches!(gone, SecretError::Unknown { .. }));
    assert!(gone.hint().contains("baton secret set shop/db"));
    assert!(store.remove_secret(&app("shop"), &secret("db")).is_err());
}

#[test]
fn a_row_in_another_place_does_not_open() {
    let directory = tempfile::tempdir().unwrap();
    let store = stored(directory.path());
    let row = store.secret_row("shop/db").unwrap().unwrap().unwrap();
    store.put_secret("evil/db", Some(&row)).unwrap();
    store.put_secret("shop/other", Some(&row)).unwrap();
    store.put_secret("shop/newer", Some(&SecretRow { revision: 2, ..row.clone() })).unwrap();
    for (name_of_app, name) in [("evil", "db"), ("shop", "other"), ("shop", "newer")] {
        let error = store.secret(&app(name_of_app), &secret(name)).unwrap_err();
        assert!(matches!(error, SecretError::Unreadable { .. }), "{error}");
    }
    for sealed in ["", "zz", "0", &row.sealed[..20], &format!("{}00", row.sealed), "é0"] {
        store.put_secret("shop/db", Some(&SecretRow { sealed: sealed.to_owned(), ..row.clone() })).unwrap();
        assert!(store.secret(&app("shop"), &secret("db")).is_err(), "{sealed}");
    }
}

#[test]
fn a_lost_or_damaged_key_is_told_and_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let store = stored(directory.path());
    let file = directory.path().join(KEY_FILE);
    let key = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let read = || store.secret(&app("shop"), &secret("db"));
    assert!(matches!(read().unwrap_err(), SecretError::KeyMissing { .. }));
    let set = store.set_secret(&app("shop"), &secret("new"), &value("x"), 1);
    assert!(matches!(set.unwrap_err(), SecretError::KeyMissing { .. }) && !file.exists());
    for damaged in [&b""[..], b"abc", b"\xff\xfe", &[b'0'; 62]] {
        fs::write(&file, damaged).unwrap();
        assert!(matches!(read().unwrap_err(), SecretError::KeyDamaged { .. }));
    }
    fs::write(&file, [b'0'; 64]).unwrap();
    assert!(matches!(read().unwrap_err(), SecretError::Unreadable { .. }));
    fs::write(&file, &key).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(read().unwrap().as_slice(), VALUE.as_bytes());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn values_that_no_environment_takes_are_refused() {
    let new = |bytes: &[u8]| SecretValue::new(bytes.to_vec()).map(|_| ());
    assert_eq!(new(b""), Err(SecretValueFault::Empty));
    assert_eq!(new(b"a\0b"), Err(SecretValueFault::Nul));
    let long = vec![b'x'; SECRET_BYTES_MAX + 1];
    assert_eq!(new(&long), Err(SecretValueFault::TooLong { bytes: SECRET_BYTES_MAX + 1 }));
    assert_eq!(new(&long[1..]), Ok(()));
    assert_eq!(format!("{:?}", value(VALUE)), "SecretValue(..)");
}

#[test]
fn an_app_has_so_many_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = stored(directory.path());
    let row = store.secret_row("shop/db").unwrap().unwrap();
    for number in 1..SECRETS_MAX {
        store.put_secret(&format!("shop/s{number}"), row.as_ref()).unwrap();
    }
    let refused = store.set_secret(&app("shop"), &secret("more"), &value("x"), 1).unwrap_err();
    assert!(matches!(refused, SecretError::TooMany { .. }), "{refused}");
    assert!(store.set_secret(&app("shop"), &secret("db"), &value("x"), 1).is_ok());
    assert!(store.set_secret(&app("other"), &secret("db"), &value("x"), 1).is_ok());
}

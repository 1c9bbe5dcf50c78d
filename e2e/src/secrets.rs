//! Secrets as people set them, and where they are looked for.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::baton;

/// `baton secret set`, the value on standard input; its exit code and all that it said.
pub fn set_secret(home: &Path, secret: &str, value: &str) -> (i32, String) {
    let mut child = Command::new(baton())
        .args(["secret", "set", secret])
        .env("BATON_HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("baton runs");
    let mut input = child.stdin.take().expect("it is piped");
    // Who is refused by name does not get to say a value.
    let _ = input.write_all(value.as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), said)
}

/// Whether a text stands somewhere in bytes.
pub fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Files below a directory that hold a text.
pub fn files_with(directory: &Path, part: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("it can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, part));
        } else if fs::read(&path).is_ok_and(|bytes| contains(&bytes, part)) {
            found.push(path.display().to_string());
        }
    }
    found
}

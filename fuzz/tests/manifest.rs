//! Manifests: any text gives an app or an error that names a place in the text.

use std::path::Path;

use baton_catalog::Manifest;
use baton_fuzz::Source;

const PIECES: &[&str] = &[
    "[app]\n",
    "name = \"a\"\n",
    "trust = \"buffer\"\n",
    "[pool]\n",
    "size = \"1MiB\"\n",
    "size = \"99999999999GiB\"\n",
    "huge_pages = true\n",
    "[functions.f]\n",
    "[functions.g]\n",
    "[functions.\"\"]\n",
    "artifact = \"f\"\n",
    "build = { cargo = \"x\" }\n",
    "build = { command = \"x\", output = \"../..\" }\n",
    "isolation = \"process\"\n",
    "isolation = \"wasm\"\n",
    "fallback = \"process\"\n",
    "files = \"x\"\n",
    "files = \"../x\"\n",
    "calls = [\"g\", \"f\", \"g\"]\n",
    "timeout = \"2s\"\n",
    "timeout = \"0ns\"\n",
    "timeout = \"18446744073709551615h\"\n",
    "memory = \"64MiB\"\n",
    "cpu = 1e308\n",
    "cpu = nan\n",
    "pool = \"read\"\n",
    "scale = { min = 0, max = 4294967296, concurrency = 0 }\n",
    "scale = { queue = -1 }\n",
    "network = [\"*\"]\n",
    "env = { A = \"\\u0000\" }\n",
    "args = [\"\\u0000\"]\n",
    "[[routes]]\n",
    "path = \"/a/{b}/{*c}\"\n",
    "path = \"/{a}{b}\"\n",
    "path = \"//\"\n",
    "methods = [\"GET\"]\n",
    "function = \"f\"\n",
    "x = 1\n",
    "\"",
    "{",
    "]",
    "\n",
];

#[test]
fn manifest() {
    baton_fuzz::fuzz(512, |input| {
        let mut source = Source::new(input);
        let mut text = String::new();
        while !source.is_empty() {
            match source.byte() {
                byte @ 0..=199 => text.push_str(PIECES[usize::from(byte) % PIECES.len()]),
                200..=230 => {
                    text.truncate(text.floor_char_boundary(text.len() / 2));
                }
                _ => text.push_str(&String::from_utf8_lossy(source.bytes(9))),
            }
        }
        match Manifest::parse(&text, Path::new("baton.toml")) {
            Ok(manifest) => {
                for (caller, callee) in manifest.edges() {
                    assert!(
                        manifest.function(caller.as_str()).is_some()
                            && manifest.function(callee.as_str()).is_some()
                    );
                }
                assert!(manifest.route_table().is_ok());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let _ = Manifest::parse(&String::from_utf8_lossy(input), Path::new("baton.toml"));
    });
}

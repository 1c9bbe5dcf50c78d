//! `baton-wasmc` as tests use it: each module is compiled once, and the next node that has it gets the same code.
//!
//! ```text
//!   module ── kept? ── yes ──▶ standard output
//!               └ no ──▶ the compiler beside this program ── code ──▶ kept, and standard output
//!                                                     └ refused, or ended ──▶ this ends the same way; nothing is kept
//! ```
//! A node cannot tell the two apart: it authenticates and welds what it gets as ever. What is kept goes by the module and the
//! compiler, so that a new compiler compiles everything anew.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::{env, thread};

use rustix::process::{Signal, getpid, kill_process};

/// The compiler, beside this program.
const COMPILER: &str = "baton-wasmc";
/// What it made, beside it.
const KEPT: &str = "baton-wasmc.kept";

fn main() -> ExitCode {
    match env::current_exe().and_then(|program| run(&program, io::stdin(), io::stdout())) {
        Ok(status) => end_as(status),
        Err(error) => {
            eprintln!("{COMPILER}, once: {error}");
            ExitCode::from(2)
        }
    }
}

/// How the compiler ended badly; `None`: there is code, and it was written.
fn run(program: &Path, mut from: impl Read, mut to: impl Write) -> io::Result<Option<ExitStatus>> {
    let (compiler, kept) = (program.with_file_name(COMPILER), program.with_file_name(KEPT));
    fs::create_dir_all(&kept)?;
    let mut module = Vec::new();
    from.read_to_end(&mut module)?;
    let path = kept.join(key(&compiler, &module)?);
    // Who comes second waits for the first.
    let _lock = locked(&path)?;
    if let Ok(code) = fs::read(&path) {
        to.write_all(&code)?;
        return Ok(None);
    }
    let (status, code) = compile(&compiler, module)?;
    if !status.success() {
        return Ok(Some(status));
    }
    let new = with_ending(&path, ".new");
    fs::write(&new, &code)?;
    fs::rename(&new, &path)?;
    to.write_all(&code)?;
    Ok(None)
}

fn key(compiler: &Path, module: &[u8]) -> io::Result<String> {
    let about = compiler.metadata()?;
    let mut hasher = DefaultHasher::new();
    (module, about.len(), about.modified()?).hash(&mut hasher);
    Ok(format!("{:016x}-{}", hasher.finish(), module.len()))
}

fn locked(path: &Path) -> io::Result<File> {
    let lock = File::create(with_ending(path, ".lock"))?;
    lock.lock()?;
    Ok(lock)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn compile(compiler: &Path, module: Vec<u8>) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut child = Command::new(compiler).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    // A compiler that has seen enough closes its end: that is its answer.
    let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&module)));
    let mut code = Vec::new();
    stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut code))?;
    let status = child.wait()?;
    let _ = writer.join();
    Ok((status, code))
}

/// Ends as the compiler ended, by the same code or the same signal.
fn end_as(status: Option<ExitStatus>) -> ExitCode {
    let Some(status) = status else { return ExitCode::SUCCESS };
    if let Some(signal) = status.signal().and_then(Signal::from_named_raw) {
        let _ = kill_process(getpid(), signal);
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Runs `script` as the compiler, once for each module; gives what came out, and how often it ran.
    fn compiled(script: &str, modules: &[&str]) -> (Vec<(Option<ExitStatus>, String)>, usize) {
        let directory = tempfile::tempdir().unwrap();
        let compiler = directory.path().join(COMPILER);
        fs::write(&compiler, format!("#!/bin/sh\necho ran >> \"$0.runs\"\n{script}\n")).unwrap();
        fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
        let ended = modules.iter().map(|module| {
            let mut code = Vec::new();
            let status = run(&directory.path().join("once"), module.as_bytes(), &mut code).unwrap();
            (status, String::from_utf8(code).unwrap())
        });
        let ended = ended.collect();
        (ended, fs::read_to_string(with_ending(&compiler, ".runs")).unwrap().lines().count())
    }

    #[test]
    fn a_module_is_compiled_once() {
        let (ended, runs) = compiled("sed s/^/code:/", &["one", "two", "one", "one"]);
        let code: Vec<_> = ended.iter().map(|(_, code)| code.as_str()).collect();
        assert_eq!(code, ["code:one", "code:two", "code:one", "code:one"]);
        assert!(ended.iter().all(|(status, _)| status.is_none()));
        assert_eq!(runs, 2);
    }

    #[test]
    fn what_ends_badly_is_not_kept_and_ends_the_same() {
        let (ended, runs) = compiled("cat; exit 1", &["bad", "bad"]);
        assert!(ended.iter().all(|(status, code)| status.unwrap().code() == Some(1) && code.is_empty()));
        assert_eq!(runs, 2);
        let (ended, _) = compiled("kill -XCPU $$", &["slow"]);
        assert_eq!(ended[0].0.unwrap().signal(), Some(Signal::XCPU.as_raw()));
    }
}

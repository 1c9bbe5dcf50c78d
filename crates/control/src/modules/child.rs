//! The compiler as a child: a module in, code or a refusal out.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use super::ModuleError;
use crate::limits::{COMPILED_BYTES_MAX, COMPILER_WORDS_MAX};

/// What the compiler exits with when it refuses a module.
const REFUSED: i32 = 1;
/// What it exits with when it panics.
const PANICKED: i32 = 101;
/// Characters of a panic's words that are told.
const PANIC_CHARS_MAX: usize = 300;
const SIGXCPU: i32 = 24;
const SIGKILL: i32 = 9;
const SIGABRT: i32 = 6;

/// Compiles a module. The child has nothing of this process but three descriptors, and bounds itself.
pub(super) fn compile(compiler: &Path, module: &Path) -> Result<Vec<u8>, ModuleError> {
    let module = File::open(module).map_err(ModuleError::Compiler)?;
    let mut child = Command::new(compiler)
        .env_clear()
        .current_dir("/")
        .stdin(module)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ModuleError::Compiler)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (code, words) = thread::scope(|scope| {
        let words = scope.spawn(|| take(stderr, COMPILER_WORDS_MAX));
        let code = take(stdout, COMPILED_BYTES_MAX + 1);
        if code.as_ref().map_or(0, Vec::len) as u64 > COMPILED_BYTES_MAX {
            // It would wait for someone to take the rest.
            let _ = child.kill();
        }
        (code, words.join())
    });
    let status = child.wait().map_err(ModuleError::Compiler)?;
    let code = code.map_err(ModuleError::Compiler)?;
    if code.len() as u64 > COMPILED_BYTES_MAX {
        return Err(ModuleError::TooLarge);
    }
    if status.success() {
        return Ok(code);
    }
    let words = words.ok().and_then(Result::ok).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    match status.code() {
        Some(REFUSED) if !words.is_empty() => Err(ModuleError::Refused { why: words }),
        _ => Err(ended(status, &words)),
    }
}

fn take(pipe: Option<impl Read>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.map_or(Ok(0), |pipe| pipe.take(most).read_to_end(&mut bytes))?;
    Ok(bytes)
}

/// What a compiler that came to no end of its own means. Its words are those of the language's runtime.
fn ended(status: ExitStatus, words: &str) -> ModuleError {
    let how = match (status.code(), status.signal()) {
        (Some(PANICKED), _) => return ModuleError::Panicked { words: panic_of(words) },
        (_, Some(SIGABRT)) if words.contains("overflowed its stack") => "ran over its stack".to_owned(),
        (_, Some(SIGABRT)) => "ran out of memory".to_owned(),
        (_, Some(SIGXCPU | SIGKILL)) => "used up its processor time".to_owned(),
        _ => format!("ended with {status}"),
    };
    ModuleError::Ended { how }
}

/// The place of a panic and what it says, without what stands around them.
fn panic_of(words: &str) -> String {
    let mut lines = words.lines().skip_while(|line| !line.contains("panicked at ")).take(2);
    let at = lines.next().and_then(|line| line.split_once("panicked at ")).map_or("", |(_, at)| at);
    let what = lines.next().unwrap_or_default();
    let said = format!("{at} {what}");
    said.trim().chars().filter(|letter| !letter.is_control()).take(PANIC_CHARS_MAX).collect()
}

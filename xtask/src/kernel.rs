//! `cargo xtask kernel`: builds the programs that run in the kernel from C, and the check that what is committed is what that gives.
//!
//! The objects are committed, so that nobody needs a C compiler to build Baton. One version of clang gives the same bytes
//! everywhere: no header of the machine is read, and no path gets into them.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::project::Project;
use crate::steps::Outcome;
use crate::tools;

/// Where the sources and the objects are.
const PLACE: &str = "crates/kernel";
/// The programs, by the names of their files below `bpf`.
const PROGRAMS: &[&str] = &["handover", "ports"];
/// How long one program may take.
const BUILD_LIMIT: Duration = Duration::from_secs(60);

/// Builds the programs where they are committed.
pub(crate) fn build(project: &Project) -> Result<Outcome, Box<dyn Error>> {
    let place = project.root().join(PLACE);
    if tools::CLANG.find().is_none() {
        return Ok(Outcome::Skipped("clang-14 is not installed".into()));
    }
    for program in PROGRAMS {
        compile(project, program, &place.join(format!("bpf/{program}.bpf.o")))?;
    }
    Ok(Outcome::Done)
}

/// Builds the programs anew and compares.
pub(crate) fn check(project: &Project) -> Result<Outcome, Box<dyn Error>> {
    let Some(version) = version()? else {
        return Ok(Outcome::Skipped(
            "clang-14 is not installed: the kernel's programs are not built anew".into(),
        ));
    };
    let target = project.target_dir()?.join("kernel");
    fs::create_dir_all(&target)?;
    for program in PROGRAMS {
        let committed = fs::read(project.root().join(PLACE).join(format!("bpf/{program}.bpf.o")))?;
        if !contains(&committed, version.as_bytes()) {
            let why = format!("{program} was built by another clang than {version}: it is not compared");
            return Ok(Outcome::Skipped(why));
        }
        let fresh = target.join(format!("{program}.bpf.o"));
        compile(project, program, &fresh)?;
        if fs::read(&fresh)? != committed {
            let message = format!(
                "{PLACE}/bpf/{program}.bpf.o is not what {program}.bpf.c gives: run `cargo xtask kernel` and commit it"
            );
            return Err(message.into());
        }
    }
    println!("{} programs are what their sources give", PROGRAMS.len());
    Ok(Outcome::Done)
}

fn compile(project: &Project, program: &str, into: &Path) -> Result<(), Box<dyn Error>> {
    let clang = tools::CLANG.find().ok_or("clang-14 is gone")?;
    let mut command = Command::new(clang);
    command.current_dir(project.root().join(PLACE));
    command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
    command
        .arg("-fdebug-compilation-dir=.")
        .arg("-c")
        .arg(format!("bpf/{program}.bpf.c"))
        .arg("-o")
        .arg(into);
    Ok(project.runner().run(&mut command, BUILD_LIMIT)?)
}

/// What clang calls itself in what it builds.
fn version() -> Result<Option<String>, Box<dyn Error>> {
    let Some(clang) = tools::CLANG.find() else { return Ok(None) };
    let said = Command::new(clang).arg("--version").output()?;
    let said = String::from_utf8(said.stdout)?;
    Ok(said.lines().next().map(str::to_owned))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_anywhere() {
        assert!(contains(b"by clang 14", b"clang 14"));
        assert!(!contains(b"by clang 14", b"clang 15"));
        assert!(!contains(b"", b"clang"));
    }
}

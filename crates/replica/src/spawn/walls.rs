//! The Landlock rules of a sandboxed process: nothing, except executing its own program and reading its own files.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope,
};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::{SpawnError, Step};
use crate::sys::machine::landlock_version;
use crate::sys::root::Access as Rights;

/// The newest interface that these rules know; older kernels get what they understand.
const NEWEST: ABI = ABI::V7;

/// The rule set of a program with a root of its own, which adds the rules itself once that is there; and these rules. `outside` is what
/// is executed from outside that root.
pub(super) fn program(
    outside: Option<BorrowedFd<'_>>,
) -> Result<(Option<OwnedFd>, Option<Rights>), SpawnError> {
    let Ok(version) = landlock_version() else { return Ok((None, None)) };
    let abi = ABI::from(i32::try_from(version).unwrap_or(i32::MAX));
    let built = || -> Result<Option<OwnedFd>, RulesetError> {
        let rules =
            Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?;
        let rules = rules.create()?;
        let run: BitFlags<AccessFs> = AccessFs::Execute | AccessFs::ReadFile;
        Ok(match outside {
            Some(program) => rules.add_rule(PathBeneath::new(program, run))?.into(),
            None => rules.into(),
        })
    };
    let all = AccessFs::from_all(abi.min(NEWEST));
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock;
    let rights = Rights {
        root: (AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir).bits(),
        tmp: (all & !devices).bits(),
        devices: ((AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir) & all).bits(),
    };
    built()
        .map(|ruleset| (ruleset, Some(rights)))
        .map_err(|_| SpawnError::at(Step::LandlockRules, Errno::INVAL))
}

/// Builds a rule set that denies every file, TCP port, outside socket and outside process. `None` if the kernel has no
/// Landlock: the namespaces and the filter hold without it.
pub(super) fn landlock(program: BorrowedFd<'_>, files: Option<&CStr>) -> Result<Option<OwnedFd>, SpawnError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path| openat(CWD, path, flags, Mode::empty());
    let files = files.map(open).transpose().map_err(|errno| SpawnError::at(Step::OpenFiles, errno))?;
    if landlock_version().is_err() {
        return Ok(None);
    }
    build(program, files).map_err(|_| SpawnError::at(Step::LandlockRules, Errno::INVAL))
}

fn build(program: BorrowedFd<'_>, files: Option<OwnedFd>) -> Result<Option<OwnedFd>, RulesetError> {
    let run: BitFlags<AccessFs> = AccessFs::Execute | AccessFs::ReadFile;
    let empty = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()
    };
    // Kernel-internal files (a memfd) can carry no rule, and need none: Landlock never judges them.
    let rules = match empty()?.add_rule(PathBeneath::new(program, run)) {
        Ok(rules) => rules,
        Err(_) => empty()?,
    };
    let rules = match files {
        Some(files) => rules.add_rule(PathBeneath::new(files, AccessFs::ReadFile | AccessFs::ReadDir))?,
        None => rules,
    };
    Ok(rules.into())
}

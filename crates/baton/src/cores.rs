//! Lists of cores, and keeping to them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// Cores such as `0` or `0,2-3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(BTreeSet<usize>);

/// The text is no list of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoreListFault;

impl fmt::Display for CoreListFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cores are numbers below {} and ranges of them, such as 0 or 0,2-3", CpuSet::MAX_CPU)
    }
}

impl std::error::Error for CoreListFault {}

impl FromStr for CoreList {
    type Err = CoreListFault;

    fn from_str(text: &str) -> Result<Self, CoreListFault> {
        let number = |text: &str| match text.trim().parse::<usize>() {
            Ok(core) if core < CpuSet::MAX_CPU => Ok(core),
            _ => Err(CoreListFault),
        };
        let mut cores = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(CoreListFault);
            }
            cores.extend(first..=last);
        }
        Ok(Self(cores))
    }
}

impl CoreList {
    /// Keeps this thread, and every thread and process that it starts from now on, to these cores.
    pub(crate) fn keep_to(&self) -> Result<(), Failure> {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).map_err(|errno| {
            Failure::bad_input(
                format_args!("cannot keep to the cores of --cores: {errno}"),
                "name cores that this machine has and this process may use",
            )
        })
    }
}

/// The cores that this thread, and what it starts, may run on; empty if the system does not say.
pub(crate) fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let check = |text: &str, cores: &[usize]| {
            assert_eq!(text.parse(), Ok(CoreList(cores.iter().copied().collect())), "{text}");
        };
        check("0", &[0]);
        check("0,2-4, 7", &[0, 2, 3, 4, 7]);
        for wrong in ["", "a", "1-", "-1", "3-2", "1,,2", "99999"] {
            assert_eq!(wrong.parse::<CoreList>(), Err(CoreListFault), "{wrong}");
        }
    }
}

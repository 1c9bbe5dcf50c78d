//! What a child tells its parent while it starts: one message per report.

use rustix::io::Errno;

use crate::spawn::Step;

/// What a child tells its parent, as two native-endian words in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// The child is tied to the life of its parent.
    Tied,
    /// Nothing is left but the filter and the program.
    Armed,
    /// The child ends because a step failed.
    Failed(Step, Errno),
}

impl Report {
    /// The size of a report on the socket.
    pub(crate) const BYTES: usize = 8;

    /// The report as bytes for the socket.
    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        let (code, detail) = match self {
            Self::Tied => (0, 0),
            Self::Armed => (0, 1),
            Self::Failed(step, errno) => (step as u32, errno.raw_os_error().unsigned_abs()),
        };
        (u64::from(code) << 32 | u64::from(detail)).to_ne_bytes()
    }

    /// Reads a report back; `None` if it is none.
    pub(crate) fn decode(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let word = u64::from_ne_bytes(bytes);
        let (code, detail) = (u32::try_from(word >> 32).ok()?, i32::try_from(word & 0xffff_ffff).ok()?);
        match (code, detail) {
            (0, 0) => Some(Self::Tied),
            (0, 1) => Some(Self::Armed),
            _ => Some(Self::Failed(Step::from_code(code)?, Errno::from_raw_os_error(detail))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_round_trip() {
        for report in [Report::Tied, Report::Armed, Report::Failed(Step::Exec, Errno::NOEXEC)] {
            assert_eq!(Report::decode(report.encode()), Some(report));
        }
        assert_eq!(Report::decode([0xff; Report::BYTES]), None);
    }
}

//! What processes use, as the kernel tells: read when somebody looks, never on the way of a request.

use std::fs;

/// What one process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// Processor time, nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Memory that it has now, bytes.
    pub(crate) resident_bytes: u64,
}

/// What the process `pid` has used; `None` if it is gone.
pub(crate) fn used(pid: u32) -> Option<Used> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<Used> {
    // The name may hold blanks and parentheses: fields count from behind the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let pages: u64 = fields.nth(8)?.parse().ok()?;
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let page_bytes = rustix::param::page_size() as u64;
    let cpu_ns = user.saturating_add(system).saturating_mul(tick_ns);
    Some(Used { cpu_ns, resident_bytes: pages.saturating_mul(page_bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 100 1000000 5 18446744073709551615 1";
        let used = parse(stat).unwrap();
        assert_eq!(used.resident_bytes, 5 * rustix::param::page_size() as u64);
        assert_eq!(used.cpu_ns, 42 * (1_000_000_000 / rustix::param::clock_ticks_per_second()));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 3 0 100 5000000 12 18446744073709551615 1";
        let used = parse(stat).unwrap();
        assert_eq!(used.resident_bytes, 12 * rustix::param::page_size() as u64);
        assert_eq!(used.cpu_ns, 300 * (1_000_000_000 / rustix::param::clock_ticks_per_second()));
        for broken in ["", "7 (x", "7 (x) S 1 2", "nonsense"] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn this_process_is_found_and_none_is_not() {
        assert!(used(std::process::id()).is_some_and(|used| used.resident_bytes > 0));
        assert_eq!(used(u32::MAX), None);
    }
}

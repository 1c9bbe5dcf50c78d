//! One line of a trace, as the kernel writes it:
//!
//! ```text
//!     some name-1234    [001] d..2.  123.456789: sys_exit: NR 1 = 64
//! ```

/// What happened, of what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A system call of this number has ended with this.
    Syscall {
        /// Its number.
        number: i64,
        /// What it gave.
        gave: i64,
    },
    /// A thread has left its core.
    Switch {
        /// Which.
        from: u32,
    },
    /// A thread was made runnable that slept.
    Wakeup {
        /// Which.
        thread: u32,
    },
    /// A packet went to a device.
    Packet {
        /// Whether to that of the machine itself.
        is_local: bool,
        /// Its length with all headers.
        len: u32,
    },
    /// Packets that have arrived are looked at.
    Receive,
    /// A core interrupts another.
    Interrupt,
}

/// An event and the thread that ran when it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The thread; 0 is a core without one.
    pub thread: u32,
    /// What its text said, for those who want more of it.
    pub text: &'a str,
    /// The event.
    pub event: Event,
}

impl<'a> Line<'a> {
    /// Reads a line; `None` of comments, and of what is not looked for.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (thread, after) = thread_and_rest(line)?;
        // Flags and time come before the name.
        let (_, named) = after.split_once(": ")?;
        let (name, text) = named.split_once(": ")?;
        let text = text.trim_end();
        let event = match name.trim() {
            "sys_exit" => syscall(text)?,
            "sched_switch" => Event::Switch { from: field(text, "prev_pid=")? },
            // The name before it may hold anything.
            "sched_wakeup" => Event::Wakeup { thread: last_field(text, " pid=")? },
            "net_dev_queue" => {
                Event::Packet { is_local: text.starts_with("dev=lo "), len: last_field(text, " len=")? }
            }
            "softirq_entry" => Event::Receive,
            "ipi_send_cpu" => Event::Interrupt,
            _ => return None,
        };
        Some(Self { thread, text, event })
    }
}

/// The number at the end of `NAME-NUMBER [CORE]`, and what follows; the name may hold blanks, hyphens and brackets.
fn thread_and_rest(line: &str) -> Option<(u32, &str)> {
    line.match_indices('[').find_map(|(at, _)| {
        let (before, from) = line.split_at_checked(at)?;
        let (core, rest) = from.strip_prefix('[')?.split_once(']')?;
        let is_core = core.len() >= 3 && core.bytes().all(|byte| byte.is_ascii_digit());
        let (_, thread) = before.trim_end().rsplit_once('-').filter(|_| is_core)?;
        Some((thread.parse().ok()?, rest))
    })
}

/// `NR 1 = 64`.
fn syscall(text: &str) -> Option<Event> {
    let (number, gave) = text.strip_prefix("NR ")?.split_once(" = ")?;
    Some(Event::Syscall { number: number.parse().ok()?, gave: gave.parse().ok()? })
}

fn field(text: &str, name: &str) -> Option<u32> {
    let (_, value) = text.split_once(name)?;
    leading(value)
}

fn last_field(text: &str, name: &str) -> Option<u32> {
    let (_, value) = text.rsplit_once(name)?;
    leading(value)
}

fn leading(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Option<(u32, Event)>) {
        assert_eq!(Line::parse(line).map(|line| (line.thread, line.event)), expect, "{line}");
    }

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        check("# tracer: nop", None);
        check("", None);
        check(
            "            nginx-1234    [001] .....  99.000001: sys_exit: NR 45 = 4096\n",
            Some((1234, Event::Syscall { number: 45, gave: 4096 })),
        );
        check(
            " tokio-rt [a] b-77      [000] .....  99.000001: sys_exit: NR 0 = -11",
            Some((77, Event::Syscall { number: 0, gave: -11 })),
        );
        check(
            " baton-5 [000] d..2. 1.5: sched_switch: prev_comm=a b prev_pid=5 prev_prio=120 prev_state=S ==> next_comm=x next_pid=9 next_prio=120",
            Some((5, Event::Switch { from: 5 })),
        );
        check(
            " <idle>-0 [001] d.h1. 1.5: sched_wakeup: comm=x pid=1 pid=42 prio=120 target_cpu=001",
            Some((0, Event::Wakeup { thread: 42 })),
        );
        check(
            " a-5 [000] b..1. 1.5: net_dev_queue: dev=lo skbaddr=0000000012345678 len=4162",
            Some((5, Event::Packet { is_local: true, len: 4162 })),
        );
        check(" a-5 [000] ..s1. 1.5: softirq_entry: vec=3 [action=NET_RX]", Some((5, Event::Receive)));
        check(" a-5 [000] d..1. 1.5: other_event: x=1", None);
        check("CPU:1 [LOST 12 EVENTS]", None);
    }
}

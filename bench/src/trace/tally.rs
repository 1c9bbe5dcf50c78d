//! Events as sums, for the threads of a system and for the one that sends it requests.

use std::collections::BTreeSet;

use super::line::{Event, Line};

/// Headers of a TCP packet without anything in it: Ethernet 14, IP 20, TCP 20 with 12 of time stamps.
const BARE_PACKET_BYTES: u32 = 66;

/// x86-64's numbers of system calls that carry bytes into a process: `read`, `pread64`, `readv`, `recvfrom`, `recvmsg`, `preadv`,
/// `process_vm_readv`, `preadv2`.
const INTO: [i64; 8] = [0, 17, 19, 45, 47, 295, 310, 327];
/// … out of one: `write`, `pwrite64`, `writev`, `sendto`, `sendmsg`, `pwritev`, `process_vm_writev`, `pwritev2`.
const OUT_OF: [i64; 8] = [1, 18, 20, 44, 46, 296, 311, 328];

/// Whose threads are whose.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    /// Those of the system that is counted.
    pub system: BTreeSet<u32>,
    /// The one that sends requests: only what it sends to the system counts, and what that takes to receive.
    pub client: Option<u32>,
}

impl Roles {
    /// All whose events are wanted.
    #[must_use]
    pub fn threads(&self) -> BTreeSet<u32> {
        self.system.iter().copied().chain(self.client).collect()
    }
}

/// What happened in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// System calls of the system's threads.
    pub syscalls: u64,
    /// Bytes that these carried from the kernel into a process: each a copy.
    pub bytes_in: u64,
    /// … and from a process into the kernel.
    pub bytes_out: u64,
    /// How often a thread of the system has left its core.
    pub switches: u64,
    /// How often one was woken.
    pub wakeups: u64,
    /// Packets with something in them that went down and up the network stack, the client's included.
    pub passes: u64,
    /// Packets that only acknowledged.
    pub acknowledgements: u64,
    /// Software interrupts that looked at what had arrived.
    pub receives: u64,
    /// Interrupts that one core sent to another.
    pub interrupts: u64,
}

impl Tally {
    /// Adds one event, if it is the system's or comes of the client's requests.
    pub fn add(&mut self, line: &Line<'_>, roles: &Roles) {
        let is_theirs = roles.system.contains(&line.thread);
        let is_either = is_theirs || roles.client == Some(line.thread);
        match line.event {
            Event::Syscall { number, gave } if is_theirs => {
                self.syscalls += 1;
                let bytes = u64::try_from(gave).unwrap_or(0);
                self.bytes_in += if INTO.contains(&number) { bytes } else { 0 };
                self.bytes_out += if OUT_OF.contains(&number) { bytes } else { 0 };
            }
            Event::Switch { from } => self.switches += u64::from(roles.system.contains(&from)),
            Event::Wakeup { thread } => self.wakeups += u64::from(roles.system.contains(&thread)),
            Event::Packet { is_local: true, len } if is_either => {
                let carries = len > BARE_PACKET_BYTES;
                self.passes += u64::from(carries);
                self.acknowledgements += u64::from(!carries);
            }
            Event::Receive => self.receives += u64::from(is_either),
            Event::Interrupt => self.interrupts += u64::from(is_either),
            Event::Syscall { .. } | Event::Packet { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_does_counts_and_what_the_client_sends_it() {
        let roles = Roles { system: [7, 8].into(), client: Some(1) };
        let mut tally = Tally::default();
        let mut add = |thread, event| tally.add(&Line { thread, text: "", event }, &roles);
        // The system reads 10 bytes, fails to read, writes 5; the client's own calls are its own affair.
        for (thread, number, gave) in [(7, 45, 10), (7, 45, -11), (8, 1, 5), (1, 44, 4096), (8, 202, 1)] {
            add(thread, Event::Syscall { number, gave });
        }
        for from in [7, 8, 1, 0] {
            add(from, Event::Switch { from });
        }
        add(1, Event::Wakeup { thread: 7 });
        add(7, Event::Wakeup { thread: 1 });
        for (thread, is_local, len) in
            [(1, true, 4162), (7, true, 66), (7, true, 67), (9, true, 100), (7, false, 100)]
        {
            add(thread, Event::Packet { is_local, len });
        }
        for thread in [1, 7, 9] {
            add(thread, Event::Receive);
            add(thread, Event::Interrupt);
        }
        let expect = Tally {
            syscalls: 4,
            bytes_in: 10,
            bytes_out: 5,
            switches: 2,
            wakeups: 1,
            passes: 2,
            acknowledgements: 1,
            receives: 2,
            interrupts: 2,
        };
        assert_eq!(tally, expect);
    }
}

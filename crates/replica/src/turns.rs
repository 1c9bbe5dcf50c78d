//! Who runs when there is more to do than cores: requests first.
//!
//! ```text
//!  replicas                   the shortest turns: woken, they come in ahead of the thread of the node that woke them
//!  data plane                 short turns: woken, it comes in ahead of whoever has long ones
//!  hashing, compiling, fsync  stepped back: their share of a busy core is a tenth, all of an idle one
//! ```
//! Neither takes a privilege.

use std::time::Duration;

use rustix::process::{getpriority_process, setpriority_process};

/// Turns of the node's threads that requests wait for. The kernel's own are longer than this.
const OF_NODE: Duration = Duration::from_millis(1);
/// Turns of replicas. What shares a core with the node answers at once then, while the node still looks at its link: neither has to
/// wake the other for the answer.
const OF_REPLICAS: Duration = Duration::from_micros(500);
/// How far others step back: a tenth of the weight.
const NICE: i32 = 10;

/// The calling thread, and what it starts from now on, has short turns.
pub fn shorten() {
    set(OF_NODE);
}

/// The calling process, which has not executed its program yet, has the turns of replicas. Two system calls and nothing else.
pub(crate) fn shorten_for_replicas() {
    set(OF_REPLICAS);
}

fn set(turn: Duration) {
    // Where the kernel does not want to know, requests wait a little longer on a busy core.
    let _ = getpriority_process(None).and_then(|nice| crate::sys::turns::set(turn, nice));
}

/// The calling thread, and what it starts from now on, lets others go first. There is no way back without a privilege.
pub fn step_back() {
    let before = getpriority_process(None).unwrap_or(0);
    if before < NICE {
        // Never refused to one who wants less.
        let _ = setpriority_process(None, NICE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_steps_back_alone() {
        let before = getpriority_process(None).unwrap();
        let nice = std::thread::spawn(|| {
            shorten();
            step_back();
            shorten();
            getpriority_process(None).unwrap()
        });
        assert_eq!(nice.join().unwrap(), NICE.max(before));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}

//! The end before the end: Ctrl-C, SIGTERM, and a limit of time.
//!
//! A suite that has more than child processes to take away, network namespaces above all, cannot leave that to the default
//! action of a signal. While an [`Ending`] is there, a thread waits for one; then it ends every process below this one, each by
//! its pid, does what the suite wants done, and ends the program.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::account;

/// Signals that ask for the end.
const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How often processes below this one are looked for and killed: what was being started at the first look is there at the next.
const SWEEPS: usize = 5;
/// The exit code of a program that is over time, as `timeout` has it.
const LATE_CODE: i32 = 124;
/// What shells add a signal's number to.
const SIGNAL_CODE: usize = 128;

/// Watches for the end; dropping it stops that.
#[derive(Debug)]
pub struct Ending {
    over: Arc<AtomicBool>,
    watching: Option<JoinHandle<()>>,
}

impl Ending {
    /// Watches from now on for at most `limit`; `clean` is done after the last process below this one is gone.
    ///
    /// # Errors
    /// Signals cannot be caught, or there is no thread.
    pub fn watch(limit: Duration, clean: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (caught, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for signal in SIGNALS {
            let number = signal.as_raw();
            let value = usize::try_from(number).unwrap_or(usize::MAX);
            signal_hook::flag::register_usize(number, Arc::clone(&caught), value)?;
        }
        let (until, stop) = (Instant::now() + limit, Arc::clone(&over));
        let watch = move || {
            while !stop.load(Ordering::Relaxed) {
                let signal = caught.load(Ordering::Relaxed);
                if signal == 0 && Instant::now() < until {
                    thread::sleep(LOOK);
                    continue;
                }
                end_all_below();
                clean();
                if signal == 0 {
                    eprintln!("error: this took more than {} s", limit.as_secs());
                    std::process::exit(LATE_CODE);
                }
                std::process::exit(i32::try_from(SIGNAL_CODE + signal).unwrap_or(1));
            }
        };
        let watching = thread::Builder::new().name("ending".into()).spawn(watch)?;
        Ok(Self { over, watching: Some(watching) })
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(watching) = self.watching.take() {
            // It has panicked at worst: then nothing is watched any more anyway.
            let _ = watching.join();
        }
    }
}

/// Ends everything that this program has started.
fn end_all_below() {
    for _ in 0..SWEEPS {
        let below = account::descendants(std::process::id());
        let living = below.iter().filter_map(|&pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let killed = living.filter(|&pid| kill_process(pid, Signal::KILL).is_ok()).count();
        if killed == 0 {
            return;
        }
        thread::sleep(LOOK);
    }
}

//! What the kernel says about chosen threads, event by event: tracepoints, read as text from a tracefs instance of our own.
//!
//! Nothing is sampled and nothing lost: the buffers of the instance hold the whole run, and a run that overflows them is an
//! error. The instance is set apart from everybody else's traces and goes with its [`Tracer`].

mod line;
mod tally;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

pub use line::{Event, Line};
pub use tally::{Roles, Tally};

/// Where tracefs may be.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// What instances are called, before the pid of who made them.
const PREFIX: &str = "baton-audit-";
/// The buffer of each core.
const BUFFER_KIB: u32 = 32 << 10;
/// The events, and which of them are wanted: an expression of the kernel's.
const EVENTS: [(&str, &str); 6] = [
    ("raw_syscalls/sys_exit", ""),
    ("sched/sched_switch", ""),
    ("sched/sched_wakeup", ""),
    ("net/net_dev_queue", ""),
    // Packets that are received.
    ("irq/softirq_entry", "vec == 3"),
    (INTERRUPT, ""),
];
/// The one that kernels before 6.5 do not have.
const INTERRUPT: &str = "ipi/ipi_send_cpu";

/// Why nothing can be counted.
#[derive(Debug)]
pub enum TraceError {
    /// The system calls of this processor have other numbers than are known here.
    Processor,
    /// There is no tracefs.
    NotThere,
    /// The kernel lacks an event, or we lack the right.
    Refused {
        /// The file that was to be read or written.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// More happened than the buffers hold.
    Lost {
        /// Events that were overwritten or dropped.
        events: u64,
    },
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processor => f.write_str("system calls are known by number on x86-64 only"),
            Self::NotThere => write!(f, "there is no tracefs at {}: mount it, or run as root", PLACES[0]),
            Self::Refused { path, error } => {
                write!(
                    f,
                    "{}: {error}; counting needs root and a kernel with this tracepoint",
                    path.display()
                )
            }
            Self::Lost { events } => {
                write!(f, "{events} events did not fit into the buffers of {BUFFER_KIB} KiB")
            }
        }
    }
}

impl std::error::Error for TraceError {}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> TraceError {
    let path = path.to_owned();
    |error| TraceError::Refused { path, error }
}

/// An instance of tracefs with the events switched on, and not recording.
#[derive(Debug)]
pub struct Tracer {
    place: PathBuf,
    sees_interrupts: bool,
}

impl Tracer {
    /// Makes an instance, and takes away those of processes that are gone.
    ///
    /// # Errors
    /// There is no tracefs, an event is missing, or it takes rights that we lack.
    pub fn new() -> Result<Self, TraceError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(TraceError::Processor);
        }
        let instances = PLACES.iter().map(|place| Path::new(place).join("instances"));
        let instances = instances.into_iter().find(|path| path.is_dir()).ok_or(TraceError::NotThere)?;
        sweep(&instances);
        let place = instances.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&place).map_err(refused(&place))?;
        let sees_interrupts = place.join("events").join(INTERRUPT).is_dir();
        let tracer = Self { place, sees_interrupts };
        tracer.set("tracing_on", "0")?;
        tracer.set("buffer_size_kb", &BUFFER_KIB.to_string())?;
        for (event, filter) in EVENTS.into_iter().filter(|(event, _)| sees_interrupts || *event != INTERRUPT)
        {
            if !filter.is_empty() {
                tracer.set(&format!("events/{event}/filter"), filter)?;
            }
            tracer.set(&format!("events/{event}/enable"), "1")?;
        }
        Ok(tracer)
    }

    /// Whether interrupts from one core to another are among the events.
    #[must_use]
    pub fn sees_interrupts(&self) -> bool {
        self.sees_interrupts
    }

    /// What takes the instance away where nothing is dropped any more: at a signal.
    pub fn clean_up(&self) -> impl FnOnce() + Send + use<> {
        let place = self.place.clone();
        move || remove(&place)
    }

    /// Records what these threads do while `work` runs, and gives each event to `each`, with what `work` gave.
    ///
    /// # Errors
    /// The kernel refuses, or events were lost.
    pub fn record<T>(
        &self,
        threads: &BTreeSet<u32>,
        work: impl FnOnce() -> T,
        mut each: impl FnMut(Line<'_>),
    ) -> Result<T, TraceError> {
        self.set("set_event_pid", "")?;
        for thread in threads {
            self.append("set_event_pid", &thread.to_string())?;
        }
        // Writing to it empties it.
        self.set("trace", "")?;
        self.set("tracing_on", "1")?;
        let result = work();
        self.set("tracing_on", "0")?;
        self.all_there()?;
        let path = self.place.join("trace");
        let mut text = BufReader::with_capacity(1 << 16, File::open(&path).map_err(refused(&path))?);
        let mut line = String::new();
        loop {
            line.clear();
            if text.read_line(&mut line).map_err(refused(&path))? == 0 {
                break;
            }
            Line::parse(&line).into_iter().for_each(&mut each);
        }
        self.set("trace", "")?;
        Ok(result)
    }

    fn all_there(&self) -> Result<(), TraceError> {
        let cores = self.place.join("per_cpu");
        let mut events = 0;
        for core in fs::read_dir(&cores).map_err(refused(&cores))?.flatten() {
            let path = core.path().join("stats");
            events += lost_in_stats(&fs::read_to_string(&path).map_err(refused(&path))?);
        }
        if events > 0 { Err(TraceError::Lost { events }) } else { Ok(()) }
    }

    fn set(&self, file: &str, value: &str) -> Result<(), TraceError> {
        let path = self.place.join(file);
        fs::write(&path, value).map_err(refused(&path))
    }

    fn append(&self, file: &str, value: &str) -> Result<(), TraceError> {
        let path = self.place.join(file);
        let opened = OpenOptions::new().append(true).open(&path);
        opened.and_then(|mut file| file.write_all(value.as_bytes())).map_err(refused(&path))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        remove(&self.place);
    }
}

fn remove(instance: &Path) {
    let _ = fs::write(instance.join("tracing_on"), "0");
    let _ = fs::remove_dir(instance);
}

/// Takes instances away whose makers did not get to it.
fn sweep(instances: &Path) {
    for entry in fs::read_dir(instances).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).is_dir()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// What a core's buffer has lost.
fn lost_in_stats(stats: &str) -> u64 {
    let fields = stats.lines().filter_map(|line| line.split_once(':'));
    let lost =
        fields.filter(|(name, _)| matches!(name.trim(), "overrun" | "commit overrun" | "dropped events"));
    lost.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_buffer_lost_is_the_sum_of_its_losses() {
        let stats =
            "entries: 12\noverrun: 3\ncommit overrun: 1\nbytes: 999\ndropped events: 2\nread events: 7\n";
        assert_eq!(lost_in_stats(stats), 6);
        assert_eq!(lost_in_stats("entries: 12\noverrun: 0\n"), 0);
    }

    #[test]
    fn a_threads_system_calls_are_counted_exactly() {
        let tracer = match Tracer::new() {
            Ok(tracer) => tracer,
            Err(error) => return eprintln!("SKIP: {error}"),
        };
        let own = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let roles = Roles { system: BTreeSet::from([own]), client: None };
        let mut tally = Tally::default();
        let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        let work = || {
            for _ in 0..10 {
                here.write_all(&[7; 1000]).unwrap();
                io::Read::read_exact(&mut there, &mut [0; 1000]).unwrap();
            }
        };
        tracer.record(&roles.threads(), work, |line| tally.add(&line, &roles)).unwrap();
        assert_eq!(
            (tally.bytes_out, tally.bytes_in),
            (10_000 + 1, 10_000),
            "and the word that switches it off"
        );
        assert!((20..40).contains(&tally.syscalls), "{tally:?}");
    }
}

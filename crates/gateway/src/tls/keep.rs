//! The certificates that the node serves with now, and the thread that looks for new ones.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;

use super::{TlsError, TlsFiles};

/// How often the files are looked at. A change is taken up once it has settled for as long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const THREAD: &str = "baton-tls";

/// What the gateway's connections are encrypted with. A clone is another handle of the same.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
}

struct Shared {
    files: TlsFiles,
    config: Mutex<Arc<ServerConfig>>,
    /// Somebody asked for a look.
    asked: Mutex<bool>,
    wake: Condvar,
}

/// What tells one content of the files from another; `None` for a file that is not there.
type Stamps = Vec<Option<(u64, u64, i64, i64)>>;

/// What the thread has seen.
struct Watch {
    /// Of what is served with, or was found to be no good.
    taken: Stamps,
    /// A change that may not have settled.
    fresh: Option<Stamps>,
}

impl Tls {
    /// Reads the files, and looks after them from then on.
    ///
    /// # Errors
    /// [`TlsError`]: no connection would be possible with them.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let taken = stamps(&files);
        let config = Mutex::new(Arc::new(files.load()?));
        let shared = Arc::new(Shared { files, config, asked: Mutex::new(false), wake: Condvar::new() });
        let weak = Arc::downgrade(&shared);
        let watch = move || Watch { taken, fresh: None }.run(&weak);
        let started = thread::Builder::new().name(THREAD.to_owned()).spawn(watch);
        started.map_err(|error| TlsError::Unusable { why: format!("no thread {THREAD}: {error}") })?;
        Ok(Self { shared })
    }

    /// Has the files read again now, changed or not.
    pub fn reload(&self) {
        *lock(&self.shared.asked) = true;
        self.shared.wake.notify_all();
    }

    /// What a new connection is served with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&lock(&self.shared.config))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.shared.files).finish_non_exhaustive()
    }
}

impl Watch {
    fn run(mut self, shared: &Weak<Shared>) {
        // Between two looks nothing is held that outlives the last handle for longer than a look.
        while let Some(shared) = shared.upgrade() {
            let asked = shared.wait();
            self.look(&shared, asked);
        }
    }

    fn look(&mut self, shared: &Shared, asked: bool) {
        let now = stamps(&shared.files);
        let has_settled = now != self.taken && self.fresh.as_ref() == Some(&now);
        if !asked && !has_settled {
            // Certificate and key are two files: between the one and the other they do not go together.
            self.fresh = Some(now).filter(|now| *now != self.taken);
            return;
        }
        match shared.files.load() {
            Ok(config) => {
                *lock(&shared.config) = Arc::new(config);
                tracing::info!("TLS certificates were read again: new connections get them");
            }
            Err(error) => {
                tracing::warn!(%error, "new TLS files are no good: connections are served with what was good before");
            }
        }
        (self.taken, self.fresh) = (now, None);
    }
}

impl Shared {
    /// Waits for the next look. Whether somebody asked for it.
    fn wait(&self) -> bool {
        let asked = lock(&self.asked);
        let waited = self.wake.wait_timeout_while(asked, LOOK_EVERY, |asked| !*asked);
        let (mut asked, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *asked)
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    };
    files.all().map(stamp).collect()
}

/// No panic leaves these half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The thread that waits for sockets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;

/// Events taken at a time.
const EVENTS_MAX: usize = 64;

/// Waits for the sockets of this process.
#[derive(Debug)]
pub(crate) struct Reactor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoll: OwnedFd,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    next: u64,
    all: BTreeMap<u64, Arc<Source>>,
}

/// One direction of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Read,
    Write,
}

/// What is known of one socket.
#[derive(Debug, Default)]
pub(super) struct Source(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    read: Readiness,
    write: Readiness,
}

#[derive(Debug, Default)]
struct Readiness {
    /// It is worth a try.
    is_set: bool,
    /// It stays set: nothing more will be heard.
    is_final: bool,
    waker: Option<Waker>,
}

/// A socket's place at the reactor.
#[derive(Debug)]
pub(super) struct Registration {
    shared: Arc<Shared>,
    token: u64,
    source: Arc<Source>,
}

impl Reactor {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Reactor> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let shared = Arc::new(Shared { epoll, sources: Mutex::default() });
        let waiting = Arc::clone(&shared);
        thread::Builder::new().name("baton-sockets".to_owned()).spawn(move || waiting.run())?;
        Ok(Reactor { shared })
    }

    /// Listens to `socket` for both ways from now on.
    pub(super) fn register(&self, socket: impl AsFd) -> io::Result<Registration> {
        let source = Arc::new(Source::default());
        let token = {
            let mut sources = self.shared.lock();
            let token = sources.next;
            sources.next += 1;
            sources.all.insert(token, Arc::clone(&source));
            token
        };
        // From here on it is taken out again, whatever happens.
        let registration = Registration { shared: Arc::clone(&self.shared), token, source };
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.shared.epoll, socket, epoll::EventData::new_u64(token), flags)?;
        Ok(registration)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                // Nobody would hear of any socket any more: the node starts another replica.
                Err(error) => {
                    eprintln!("baton-shim: sockets cannot be waited for: {error}");
                    std::process::exit(1);
                }
            }
            for event in &events {
                let (token, flags) = (event.data.u64(), event.flags);
                // One that is not there any more was closed meanwhile.
                let source = self.lock().all.get(&token).cloned();
                if let Some(source) = source {
                    source.note(flags);
                }
            }
        }
    }
}

impl Source {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, flags: epoll::EventFlags) {
        use epoll::EventFlags as On;
        let is_over = flags.intersects(On::HUP | On::ERR);
        let mut state = self.lock();
        let mut woken = [None, None];
        if is_over || flags.intersects(On::IN | On::RDHUP) {
            let ends = is_over || flags.contains(On::RDHUP);
            woken[0] = state.read.set(ends);
        }
        if is_over || flags.contains(On::OUT) {
            woken[1] = state.write.set(is_over);
        }
        drop(state);
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// Takes the flag of one way, or waits for it.
    pub(super) fn poll_take(&self, way: Way, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let readiness = state.of(way);
        if readiness.is_set {
            readiness.is_set = readiness.is_final;
            return Poll::Ready(());
        }
        match &mut readiness.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes the flag of one way, if it is set.
    pub(super) fn take(&self, way: Way) {
        let mut state = self.lock();
        let readiness = state.of(way);
        readiness.is_set = readiness.is_final;
    }

    /// There may be more than was read or written.
    pub(super) fn put_back(&self, way: Way) {
        self.lock().of(way).is_set = true;
    }

    /// Whether something came, or the other end went, that nobody has looked at.
    pub(super) fn is_stirred(&self) -> bool {
        self.lock().read.is_set
    }
}

impl State {
    fn of(&mut self, way: Way) -> &mut Readiness {
        match way {
            Way::Read => &mut self.read,
            Way::Write => &mut self.write,
        }
    }
}

impl Readiness {
    fn set(&mut self, is_final: bool) -> Option<Waker> {
        self.is_set = true;
        self.is_final |= is_final;
        self.waker.take()
    }
}

impl Registration {
    pub(super) fn source(&self) -> &Source {
        &self.source
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The kernel forgets the socket with its descriptor, which is closed next.
        self.shared.lock().all.remove(&self.token);
    }
}

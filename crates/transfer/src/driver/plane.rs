//! The thread `baton-transfer`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use super::fetch::Fetching;
use super::pipe::Parted;
use super::{Peer, Service, Shared, greet, serve};
use crate::bulk::PullError;
use crate::counts::Counted;
use crate::limits::{GREETING_MAX, LANES_PER_PEER_MAX};
use crate::payload::{AnswerKind, Incoming, Outcome, Room};
use crate::reference::Reference;
use crate::vault::Now;
use crate::wire::hello::Lane;

/// The pause when the system gives no more connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the data thread wants.
pub(crate) enum Command {
    Dial { peer: Peer, reply: oneshot::Sender<Result<Parted, String>> },
    Pull(PullCommand),
    Release { node: String, reference: Reference },
    Stop,
}

pub(crate) struct PullCommand {
    pub(crate) node: String,
    pub(crate) reference: Reference,
    pub(crate) room: Room,
    pub(crate) deadline: Now,
    pub(crate) reply: oneshot::Sender<Result<Room, PullError>>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A call lane that a peer opened.
pub(crate) struct Accepted {
    pub(crate) parted: Parted,
    pub(crate) peer: Peer,
}

/// Serves nothing.
pub(crate) struct Nobody;

impl Service for Nobody {
    fn serve(&self, _: Rc<str>, _: Incoming) -> Pin<Box<dyn Future<Output = Outcome>>> {
        Box::pin(async { Outcome { status: 503, kind: AnswerKind::Refused, ..Outcome::default() } })
    }
}

/// Starts the thread. It ends when it is told so, or when nobody can tell it anything any more.
pub(crate) fn start(
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    commands: mpsc::Receiver<Command>,
    accepted: mpsc::Sender<Accepted>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let plane = Rc::new(Plane {
                shared,
                accepted,
                fetching: RefCell::default(),
                greeting: Cell::new(0),
                forgot_at: Cell::new(0),
                serving: RefCell::default(),
            });
            match TcpListener::from_std(listener) {
                Ok(listener) => plane.run(listener, commands).await,
                Err(error) => tracing::error!(%error, "cannot listen for other nodes"),
            }
        });
        // Tasks end with the set, before the reactor that their sockets are registered with.
        drop(local);
    };
    std::thread::Builder::new().name("baton-transfer".to_owned()).spawn(work).map(drop)
}

struct Plane {
    shared: Arc<Shared>,
    accepted: mpsc::Sender<Accepted>,
    fetching: RefCell<HashMap<String, Rc<Fetching>>>,
    greeting: Cell<usize>,
    /// The news that `forget` last looked at.
    forgot_at: Cell<u64>,
    serving: RefCell<HashMap<String, usize>>,
}

impl Plane {
    async fn run(self: Rc<Self>, listener: TcpListener, mut commands: mpsc::Receiver<Command>) {
        let mut news = self.shared.news.subscribe();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None | Some(Command::Stop) => return,
                    Some(command) => self.command(command),
                },
                accepted = listener.accept() => match accepted {
                    Ok((tcp, from)) => self.greet(tcp, from),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection of another node");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = news.changed() => self.forget(),
            }
        }
    }

    fn command(self: &Rc<Self>, command: Command) {
        match command {
            Command::Dial { peer, reply } => {
                let plane = Rc::clone(self);
                spawn_local(async move {
                    let dialled = greet::dial(&plane.shared, &peer, Lane::Call).await;
                    let parted = dialled.and_then(|pipe| Ok(pipe.part()?));
                    let _ = reply.send(parted.map_err(|error| error.to_string()));
                });
            }
            Command::Pull(pull) => match self.fetching(&pull.node) {
                Some(fetching) => fetching.pull(pull),
                None => drop(pull.reply.send(Err(PullError::NotConnected))),
            },
            Command::Release { node, reference } => {
                if let Some(fetching) = self.fetching(&node) {
                    fetching.release(&reference);
                }
            }
            Command::Stop => {}
        }
    }

    /// Pulls from `node`, if it is a peer.
    fn fetching(&self, node: &str) -> Option<Rc<Fetching>> {
        // The news of peers may still be on its way here: what is asked for now is meant for those of now.
        self.forget();
        let mut all = self.fetching.borrow_mut();
        if let Some(fetching) = all.get(node) {
            return Some(Rc::clone(fetching));
        }
        let fetching = Fetching::start(&self.shared, self.shared.peer(node)?);
        all.insert(node.to_owned(), Rc::clone(&fetching));
        Some(fetching)
    }

    /// Gives up pulls from peers that are none any more.
    fn forget(&self) {
        let news = *self.shared.news.borrow();
        if self.forgot_at.replace(news) == news {
            return;
        }
        self.fetching.borrow_mut().retain(|_, fetching| {
            let known = self.shared.knows(fetching.peer());
            if !known {
                fetching.give_up();
            }
            known
        });
    }

    fn greet(self: &Rc<Self>, tcp: TcpStream, from: std::net::SocketAddr) {
        if self.greeting.get() >= GREETING_MAX {
            self.shared.counters.one(Counted::TurnedAway);
            return;
        }
        self.greeting.set(self.greeting.get() + 1);
        let plane = Rc::clone(self);
        spawn_local(async move {
            let admitted = greet::admit(&plane.shared, tcp, from).await;
            plane.greeting.set(plane.greeting.get() - 1);
            match admitted {
                Ok((pipe, peer, Lane::Call)) => {
                    let Ok(parted) = pipe.part() else { return };
                    if plane.accepted.try_send(Accepted { parted, peer }).is_err() {
                        plane.shared.counters.one(Counted::TurnedAway);
                    }
                }
                Ok((pipe, peer, Lane::Bulk)) => {
                    let Some(_place) = Place::take(&plane, &peer.name) else {
                        plane.shared.counters.one(Counted::TurnedAway);
                        return;
                    };
                    let name = peer.name.clone();
                    let ended = serve::run(pipe, peer, &plane.shared).await;
                    tracing::debug!(peer = name, %ended, "a node's pulls ended");
                }
                Err(error) => tracing::warn!(%from, %error, "a connection of another node was not taken"),
            }
        });
    }
}

/// One of the bulk lanes that a peer may have open.
struct Place(Rc<Plane>, String);

impl Place {
    fn take(plane: &Rc<Plane>, peer: &str) -> Option<Place> {
        let mut serving = plane.serving.borrow_mut();
        let open = serving.entry(peer.to_owned()).or_default();
        if *open >= LANES_PER_PEER_MAX {
            return None;
        }
        *open += 1;
        Some(Place(Rc::clone(plane), peer.to_owned()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut serving = self.0.serving.borrow_mut();
        if let Some(open) = serving.get_mut(&self.1) {
            *open -= 1;
            if *open == 0 {
                serving.remove(&self.1);
            }
        }
    }
}

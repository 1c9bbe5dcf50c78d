//! One connection to the program: what comes over it, and what that is.

use std::fmt;
use std::io;
use std::rc::Rc;

use baton::{Buffer, Error};

use super::body::{Framed, Next};
use super::head::{BadHead, Head, read_answer};
use crate::io::Socket;

/// What is read at once where it is not known yet what it is.
const PIECE_BYTES: usize = 8 * 1024;
/// Interim answers in front of the answer.
const INTERIM_MAX: usize = 16;
/// Wanted of a connection that stays as it is.
const SWITCHING: u16 = 101;

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Rc<Socket>,
    pub(crate) inbox: Inbox,
}

/// What came over a connection and was not taken yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    socket: Rc<Socket>,
    bytes: Vec<u8>,
    /// Bytes at the front that were taken.
    taken: usize,
}

/// Why there is no answer, or no whole one.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection ended before a byte of the answer came.
    Silent,
    /// It ended in the middle.
    Cut,
    /// It broke.
    Broken(io::Error),
    /// What came is no answer.
    Bad(BadHead),
    /// Not the program's fault.
    Own(Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Silent => f.write_str("the program closed the connection without an answer"),
            Fault::Cut => f.write_str("the program closed the connection in the middle of its answer"),
            Fault::Broken(error) => write!(f, "the connection to the program broke: {error}"),
            Fault::Bad(BadHead(how)) => write!(f, "the program's answer cannot be read: {how}"),
            Fault::Own(error) => write!(f, "{error}"),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Own(error) => error,
            fault => Error::new(502, fault.to_string()),
        }
    }
}

impl Connection {
    pub(crate) fn new(socket: Socket) -> Connection {
        let socket = Rc::new(socket);
        Connection { inbox: Inbox { socket: Rc::clone(&socket), bytes: Vec::new(), taken: 0 }, socket }
    }

    /// Whether another request may go over it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.inbox.rest().is_empty() && self.socket.is_at_rest()
    }
}

impl Inbox {
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken >= self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
    }

    /// Reads more; none at the end.
    async fn fill(&mut self) -> Result<usize, Fault> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let had = self.bytes.len();
        self.bytes.resize(had + PIECE_BYTES, 0);
        let read = self.socket.read(self.bytes.get_mut(had..).unwrap_or_default()).await;
        self.bytes.truncate(had + *read.as_ref().unwrap_or(&0));
        read.map_err(Fault::Broken)
    }

    /// The head of the answer to a request with `method`. `switches`: whether the connection may become something else.
    pub(crate) async fn head(&mut self, method: &str, switches: bool) -> Result<Head, Fault> {
        let mut interim = 0;
        loop {
            match read_answer(self.rest(), method).map_err(Fault::Bad)? {
                Some((head, len)) => {
                    self.take(len);
                    if head.status >= 200 || (switches && head.status == SWITCHING) {
                        return Ok(head);
                    }
                    interim += 1;
                    if head.status == SWITCHING || interim > INTERIM_MAX {
                        return Err(Fault::Bad(BadHead("its interim answers are none that were asked for")));
                    }
                }
                None => {
                    let has_begun = interim > 0 || !self.rest().is_empty();
                    match self.fill().await {
                        Ok(0) if has_begun => return Err(Fault::Cut),
                        Ok(0) => return Err(Fault::Silent),
                        Ok(_) => {}
                        Err(Fault::Broken(error)) if !has_begun && is_gone(&error) => {
                            return Err(Fault::Silent);
                        }
                        Err(fault) => return Err(fault),
                    }
                }
            }
        }
    }

    /// Appends what comes next of a body, at most what `into` has room for; `false` at the body's end.
    pub(crate) async fn body(&mut self, framed: &mut Framed, into: &mut Buffer) -> Result<bool, Fault> {
        loop {
            let (next, used) = framed.next(self.rest()).map_err(Fault::Bad)?;
            self.take(used);
            match next {
                Next::End => return Ok(false),
                Next::More => {
                    if self.fill().await? == 0 {
                        return Err(Fault::Cut);
                    }
                }
                Next::Body(left) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.remaining());
                    let count = if self.rest().is_empty() {
                        let socket = Rc::clone(&self.socket);
                        let read = |stream: &crate::io::Stream| {
                            into.append_with(most, |space| io::Read::read(&mut &*stream, space))
                        };
                        socket.read_by(most, read).await.map_err(Fault::Broken)?
                    } else {
                        let came = self.rest().len().min(most);
                        into.extend_from_slice(self.rest().get(..came).unwrap_or_default())
                            .map_err(Fault::Own)?;
                        self.take(came);
                        came
                    };
                    if count == 0 {
                        return if framed.end() { Ok(false) } else { Err(Fault::Cut) };
                    }
                    framed.took(count as u64);
                    return Ok(true);
                }
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

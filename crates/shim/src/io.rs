//! Sockets that tasks of the SDK can wait for.
//!
//! The SDK's thread sleeps on its bell, where sockets are not heard. So their readiness is waited for by a thread of its own, which
//! wakes the tasks concerned, and by that rings the bell. Reading and writing is done by the tasks themselves: bytes go between a
//! socket and a buffer of the pool in one system call, and no payload crosses threads.
//!
//! | a task | the other thread |
//! |---|---|
//! | takes the flag, reads or writes, and puts the flag back where there may be more | |
//! | nothing there: takes the flag, or leaves its waker, under one lock | sets the flag and takes the waker, under the same |
//!
//! Edges are reported once (`EPOLLET`), so the flag is taken *before* the system call: what arrives behind it sets it again. The
//! end of a connection comes with no second edge: it stays set.

mod reactor;
mod socket;

pub(crate) use reactor::Reactor;
pub(crate) use socket::{Address, Socket, Stream};

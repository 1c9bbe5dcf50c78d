//! Values of this program's one thread, where a library asks for values that any thread may have.

// UNSAFETY: says of values of one thread that they may be sent, in a program that has one thread.
#![expect(unsafe_code, reason = "the engine wants values that can be sent")]

use core::future::Future;
use core::ops::{Deref, DerefMut};
use core::pin::Pin;
use core::task::{Context, Poll};

/// A value that never leaves this thread.
#[derive(Debug)]
pub(crate) struct Single<T>(pub(crate) T);

// SAFETY: such a value is made, used and dropped on this program's main thread, where all tasks run: the runtime is tokio's for one
// thread, and blocking work is done in place (`allow_blocking_current_thread`). The one exception are streams of files, which WASI's
// library reads on another thread: what it takes along there is a file and an offset, and nothing that is made in this program.
unsafe impl<T> Send for Single<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Single<T> {}

impl<T> Deref for Single<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Single<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<F: Future> Future for Single<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the field is pinned as the whole is: nothing moves it out, and there is no `Drop`.
        unsafe { self.map_unchecked_mut(|single| &mut single.0) }.poll(context)
    }
}

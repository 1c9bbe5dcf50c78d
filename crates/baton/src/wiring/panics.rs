//! Panics of the node's own threads, tasks included: the runtime would swallow those of a task.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use tokio::sync::Notify;

use super::{CONTROL_THREAD, DATA_THREAD, STORE_THREAD};
use crate::failure::Failure;

/// What went wrong in a thread that nobody joins.
static PANIC: OnceLock<Arc<Panic>> = OnceLock::new();

#[derive(Default)]
struct Panic {
    message: Mutex<Option<String>>,
    told: Notify,
}

pub(super) fn ended(thread: &str) -> Failure {
    let told =
        PANIC.get().and_then(|panic| panic.message.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let message = told.unwrap_or_else(|| format!("the node's thread {thread} has ended"));
    Failure::failed(message, "this is a bug in Baton: report it with the output above")
}

pub(super) async fn panicked() -> Failure {
    match PANIC.get() {
        Some(panic) => panic.told.notified().await,
        None => std::future::pending().await,
    }
    ended("?")
}

/// Notes the first panic of the node's own threads, whichever task it was in.
pub(super) fn watch() {
    let panic = Arc::clone(PANIC.get_or_init(Arc::default));
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        if name == STORE_THREAD {
            return;
        }
        default(info);
        if baton_flow::is_guarded() || baton_control::is_guarded() {
            // A handler of a policy, or a database over a damaged file: it is caught, its request or change ends, and that is all.
            return;
        }
        if name == DATA_THREAD || name == CONTROL_THREAD {
            let mut message = panic.message.lock().unwrap_or_else(PoisonError::into_inner);
            message.get_or_insert_with(|| format!("the node's thread {name} panicked: {info}"));
            drop(message);
            panic.told.notify_one();
        }
    }));
}

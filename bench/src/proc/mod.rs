//! Servers as child processes: started on a core, awaited, accounted for, and always ended.

mod account;
mod server;

pub use account::{ProcError, Usage, affinity, busy_share, descendants, pin, pinned, private_kib, usage};
pub use server::{Server, ServerSpec, StartError};

//! Servers as child processes: started on a core, awaited, accounted for, and always ended.

mod account;
mod ending;
mod server;

pub use account::{
    ProcError, Usage, affinity, busy_share, descendants, machine_used_kib, pin, pinned, private_kib,
    proportional_kib, threads, usage,
};
pub use ending::Ending;
pub use server::{Server, ServerSpec, StartError};

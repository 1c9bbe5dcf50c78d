//! Payload memory: regions, slab, ledger, capabilities, links.
//!
//! ```text
//!  Region (sealed memfd)      Ledger: slot → place, generation (node writes, replicas read)
//!  ┌──────┬──────┬────────┐   CapabilityTable: who holds which range with which rights
//!  │buffer│buffer│  …     │   Ring + Bell: 64-byte descriptors between two peers
//!  └──────┴──────┴────────┘   Pool: all of it together, the node's side
//! ```
//! `unsafe` lives in [`region`] and `placed`; everything else only marks its layouts.

pub mod bell;
pub mod capability;
#[cfg(not(loom))]
pub mod control;
pub mod figures;
pub mod ledger;
mod placed;
pub mod ring;
mod spans;
pub mod stash;
mod sync;

#[cfg(not(loom))]
pub mod link;
#[cfg(not(loom))]
pub mod pool;
#[cfg(not(loom))]
pub mod region;
#[cfg(not(loom))]
pub mod road;
#[cfg(loom)]
mod region {
    //! Stands in for mappings while models run: loom's atomics cannot live in shared memory.
    #[derive(Debug)]
    pub enum Mapping {}
    impl Mapping {
        pub(crate) fn address(&self, _: u64, _: u64) -> Option<core::ptr::NonNull<u8>> {
            match *self {}
        }
    }
}

pub use placed::{Placed, SharedLayout};

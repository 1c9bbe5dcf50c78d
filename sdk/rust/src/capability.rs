//! How payloads are named: the words of the pool crate, which is for those who map a pool, for those too who do not.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use baton_pool::capability::{Handle, Range};
#[cfg(target_arch = "wasm32")]
pub(crate) use names::{Handle, Range};

#[cfg(target_arch = "wasm32")]
mod names {
    /// An index and a generation: all that anyone passes around.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Handle {
        pub(crate) index: u32,
        pub(crate) generation: u32,
    }

    /// A range inside a buffer.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Range {
        pub(crate) offset: u64,
        pub(crate) len: u64,
    }
}

//! Named maxima of the shared layouts.

/// Replicas of one app that may live at the same time.
pub const REPLICAS_MAX: u32 = 128;
/// Capabilities that one replica may have derived (lent, shared or narrowed) at the same time.
pub const DERIVED_MAX: u32 = 1024;
/// Smallest number of descriptors in a ring.
pub const RING_MIN: u32 = 16;
/// Largest number of descriptors in a ring.
pub const RING_MAX: u32 = 4096;
/// Most buffers that a pool can have out at the same time.
pub const SLOTS_MAX: u32 = 65_536;
/// Fewest buffer slots of a pool, however small it is.
pub const SLOTS_MIN: u32 = 1_024;
/// Size classes that are recycled by class, in bytes: 256 B << class, for class in 0..=8 (64 KiB).
pub const SLAB_CLASSES: u32 = 9;
/// Bytes of the smallest size class.
pub const SLAB_MIN_BYTES: u64 = 256;
/// Bytes kept free before a fresh body, so that a head can be written in front of it.
pub const HEADROOM_BYTES: u64 = 128;
/// Largest encoded head (method, path, headers), bytes.
pub const HEAD_MAX_BYTES: usize = 128 * 1024;
/// Bad descriptors in a row after which a replica is killed.
pub const BAD_DESCRIPTORS_MAX: u32 = 3;
/// Longest function name in a boot message, bytes.
pub const NAME_MAX_BYTES: usize = 48;

/// The number of buffer slots of a pool of `pool_bytes`.
#[must_use]
pub const fn slots_for(pool_bytes: u64) -> u32 {
    let wanted = pool_bytes / 4096;
    if wanted < SLOTS_MIN as u64 {
        SLOTS_MIN
    } else if wanted > SLOTS_MAX as u64 {
        SLOTS_MAX
    } else {
        // Cannot truncate: bounded by SLOTS_MAX just above.
        #[expect(clippy::cast_possible_truncation, reason = "bounded by SLOTS_MAX")]
        {
            wanted as u32
        }
    }
}

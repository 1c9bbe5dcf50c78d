//! The errnos of gates. They are Linux's on every target: those of the target's own libc may be others.

pub(super) const EAGAIN: i32 = 11;
pub(super) const EACCES: i32 = 13;
pub(super) const ENOSPC: i32 = 28;
pub(super) const ELOOP: i32 = 40;
pub(super) const ENOBUFS: i32 = 105;
pub(super) const ETIMEDOUT: i32 = 110;
pub(super) const EHOSTUNREACH: i32 = 113;
pub(super) const ESTALE: i32 = 116;

#[cfg(not(target_arch = "wasm32"))]
const _: () = {
    assert!(EAGAIN == libc::EAGAIN && EACCES == libc::EACCES && ENOSPC == libc::ENOSPC);
    assert!(ELOOP == libc::ELOOP && ENOBUFS == libc::ENOBUFS && ETIMEDOUT == libc::ETIMEDOUT);
    assert!(EHOSTUNREACH == libc::EHOSTUNREACH && ESTALE == libc::ESTALE);
};

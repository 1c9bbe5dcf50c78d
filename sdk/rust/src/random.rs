//! Random numbers, and what to do in a copy.

// UNSAFETY: asks the kernel for random bytes by libc.
#![cfg_attr(
    not(target_arch = "wasm32"),
    expect(unsafe_code, reason = "getrandom has no safe wrapper among the dependencies' features")
)]

use std::cell::RefCell;

use crate::gates::Page;

/// A gate gives at most as many random bytes at a time.
const AT_A_TIME: usize = 4096;

/// Fills `bytes` with random ones from the operating system, or from the host of a Wasm module.
///
/// A generator that a function seeds before it serves is seeded alike in all its copies: see [`on_restore`].
pub fn random(bytes: &mut [u8]) {
    let source = Source::find();
    for part in bytes.chunks_mut(AT_A_TIME) {
        let mut filled = 0;
        // A source that gives nothing is none: a function must not go on as if it had random numbers.
        while let Some(rest) = part.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match source.fill(rest) {
                Some(got) if got > 0 => filled += got,
                _ => std::process::abort(),
            }
        }
    }
}

/// Where random numbers come from.
enum Source {
    Gates(Page),
    #[cfg(not(target_arch = "wasm32"))]
    Kernel,
}

impl Source {
    #[cfg(not(target_arch = "wasm32"))]
    fn find() -> Source {
        Page::find().and_then(|page| page.check().ok()).map_or(Source::Kernel, Source::Gates)
    }

    #[cfg(target_arch = "wasm32")]
    fn find() -> Source {
        Source::Gates(Page)
    }

    /// Fills some of `bytes`; how many.
    fn fill(&self, bytes: &mut [u8]) -> Option<usize> {
        match self {
            Source::Gates(page) => usize::try_from(page.random(bytes)).ok(),
            #[cfg(not(target_arch = "wasm32"))]
            Source::Kernel => from_kernel(bytes),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn from_kernel(bytes: &mut [u8]) -> Option<usize> {
    // SAFETY: `bytes` is valid for writing that many bytes.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    usize::try_from(got).ok()
}

thread_local! {
    static HOOKS: RefCell<Vec<Box<dyn Fn()>>> = const { RefCell::new(Vec::new()) };
}

/// Has `hook` called in every copy of this function, before the copy's first request. Register it in `main`, before
/// [`serve`](fn@crate::serve).
///
/// In a cell (`isolation = "compartment"` or `"wasm"`) a function starts once, up to where it first waits for a request; every replica is a
/// copy of its memory at that moment, and with `reset = true` so is every request. What was random then is alike in all
/// copies: generators, hash seeds, identifiers, times. Draw them anew here. In a process, which nobody copies, no hook is
/// ever called.
pub fn on_restore(hook: impl Fn() + 'static) {
    HOOKS.with_borrow_mut(|hooks| hooks.push(Box::new(hook)));
}

/// This is a copy: calls the hooks.
#[cold]
pub(crate) fn restored() {
    // Taken out, so that a hook may register another; those wait for the next copy.
    let mut hooks = HOOKS.take();
    hooks.iter().for_each(|hook| hook());
    HOOKS.with_borrow_mut(|added| {
        hooks.append(added);
        *added = hooks;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_are_not_all_alike_at_any_length() {
        for len in [0, 1, 32, AT_A_TIME + 1] {
            let (mut one, mut other) = (vec![0u8; len], vec![0u8; len]);
            random(&mut one);
            random(&mut other);
            assert!(len < 32 || one != other);
        }
    }
}

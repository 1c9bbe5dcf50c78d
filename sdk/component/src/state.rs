//! What an instance's host functions work with.

use core::cell::RefCell;
use core::convert::Infallible;

use baton::Context;
use rand_core::TryRng;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::p2::bindings::random::insecure_seed;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::outgoing::Outgoing;

/// Where a function's files are, by this variable.
const FILES_ENV: &str = "BATON_FILES";

/// Behind one instance.
pub(crate) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
}

impl State {
    /// # Errors
    /// The function's files cannot be opened.
    pub(crate) fn new() -> wasmtime::Result<State> {
        let mut wasi = WasiCtx::builder();
        wasi.inherit_env()
            .inherit_args()
            .inherit_stdout()
            .inherit_stderr()
            .allow_blocking_current_thread(true)
            .secure_random(FromTheCell)
            .insecure_random(FromTheCell);
        if let Some(files) = std::env::var_os(FILES_ENV) {
            let name = files.to_string_lossy().into_owned();
            wasi.preopened_dir(&files, name, FsPerms::ReadOnly)?;
        }
        Ok(State {
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::default(),
        })
    }
}

impl State {
    /// A request begins.
    pub(crate) fn begin(&mut self, context: &Context) {
        draw_anew();
        self.outgoing.begin(context);
    }

    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Random numbers of the cell. The library asks for them byte by byte, so that some are drawn ahead; what is drawn is dropped when
/// a request begins, since it is in the snapshot, and every copy would have the same.
struct FromTheCell;

/// Bytes that are drawn ahead at a time.
const AHEAD: usize = 256;

thread_local! {
    /// Bytes that nobody has had yet.
    static DRAWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Drops what is drawn ahead.
fn draw_anew() {
    DRAWN.with_borrow_mut(Vec::clear);
}

fn draw<const N: usize>() -> [u8; N] {
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.len() < N {
            drawn.resize(AHEAD, 0);
            baton::random(drawn);
        }
        let rest = drawn.len().saturating_sub(N);
        let bytes = drawn.last_chunk().copied().unwrap_or([0; N]);
        drawn.truncate(rest);
        bytes
    })
}

impl TryRng for FromTheCell {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(draw()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(draw()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        baton::random(bytes);
        Ok(())
    }
}

/// What `wasi:random/insecure-seed` gives: another number each time.
pub(crate) struct Seed;

impl insecure_seed::Host for Seed {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((u64::from_le_bytes(draw()), u64::from_le_bytes(draw())))
    }
}

impl HasData for Seed {
    type Data<'a> = Seed;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_given_twice_and_none_are_kept_for_the_next_request() {
        let first: Vec<u64> = (0..100).map(|_| FromTheCell.try_next_u64().unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = first.iter().collect();
        assert_eq!(distinct.len(), first.len());
        let kept = DRAWN.with_borrow(Clone::clone);
        draw_anew();
        assert!(!kept.is_empty() && DRAWN.with_borrow(Vec::is_empty));
        let _ = FromTheCell.try_next_u32();
        assert!(DRAWN.with_borrow(|drawn| !drawn.starts_with(&kept)));
    }
}

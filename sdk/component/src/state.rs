//! What an instance's host functions work with.

use core::convert::Infallible;

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

/// Random numbers of the cell, asked for each time: a generator with a state of its own would be in the snapshot, and give
/// every copy the same numbers.
struct FromTheCell;

impl TryRng for FromTheCell {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        baton::random(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        baton::random(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
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
        let mut halves = [[0; 8]; 2];
        halves.iter_mut().for_each(|half| baton::random(half));
        let [one, other] = halves.map(u64::from_le_bytes);
        Ok((one, other))
    }
}

impl HasData for Seed {
    type Data<'a> = Seed;
}

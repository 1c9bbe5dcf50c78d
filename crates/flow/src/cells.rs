//! The cells of an app: its functions with `isolation = "compartment"` or `"wasm"`, in groups of one cell each.
//!
//! ```text
//!   functions ── placement ─▶ groups          a group: the functions that share a cell, one seat each
//!                                │
//!                                ▼
//!                     keep_template: start, load, listen ─── dies ─▶ back-off, again (its cells die with it)
//!                                │ fork
//!                                ▼
//!                     keep_cell, one task a place of the unit: born, ready, live ─── dies ─▶ all its replicas are buried,
//!                                                                                back-off, forked again
//! ```
//! How many cells there are is up to the scaler (`crate::scale`). The template stays for a while when there are none,
//! and is started anew from the snapshots on the disk when there shall be one again.

mod birth;
mod evict;
mod form;
mod images;
mod introduce;
mod keep;
mod of_app;
mod plan;
mod pressure;
mod rest;
mod symbols;
mod template;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use baton_placement::Bounds;
use baton_replica::{ExitReason, Template};
use tokio::sync::Notify;

pub(crate) use evict::evict;
pub(crate) use form::{calls, form};
pub(crate) use keep::keep_cell;
pub(crate) use plan::access;
pub(crate) use pressure::relieve;
pub(crate) use template::keep_template;

use crate::app::App;
use crate::snapshots::{Image, SnapshotKey};

/// Groups that have ahead what their next cells need: some thirty descriptors each.
const PREPARED_MAX: usize = 64;

/// The functions that share a cell, and what all of their cells come from.
pub(crate) struct Group {
    /// Counts the groups of the app.
    pub(crate) number: usize,
    /// The function of each seat, by its index in the app.
    pub(crate) seats: Vec<usize>,
    /// Number of the key that a seat shares with others; 0 for its own.
    key_groups: Vec<u32>,
    /// Cells that are always there, and that there may be; how long one that need not be there stays without work.
    pub(crate) bounds: Bounds,
    /// The longest time that a call of one of its functions may take.
    pub(crate) patience: Duration,
    /// The program of cells.
    program: PathBuf,
    template: RefCell<Option<Template>>,
    /// The template has loaded everything.
    ready: Cell<bool>,
    /// Why a function could not be loaded, and which.
    pub(crate) failure: RefCell<Option<(usize, String)>>,
    cells: RefCell<BTreeMap<u32, Rc<baton_replica::Cell>>>,
    next_cell: Cell<u32>,
    /// Callers and callees between whose cells there are edges.
    edges: RefCell<BTreeSet<(usize, usize)>>,
    /// Cells of the present template that died for want of memory, as far as was noticed.
    oom_kills: Cell<u64>,
    /// How long its template took to load everything, until a cell came of it.
    load: Cell<Option<Duration>>,
    /// Reports of faults that are being given names.
    naming: Cell<u32>,
    /// Told when a cell is born or has ended.
    turned: Notify,
    /// Each seat's snapshot, and the name under which it is stored.
    images: RefCell<Vec<Option<Image>>>,
    keys: RefCell<Vec<Option<SnapshotKey>>>,
    /// Seats whose snapshots came from the disk for the present template.
    from_disk: RefCell<Vec<usize>>,
}

impl Group {
    /// Whether its template takes forks.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// Whether it has a template, ready or not.
    pub(crate) fn is_up(&self) -> bool {
        self.template.borrow().is_some()
    }

    /// Makes ahead what its next cell needs: someone waits while it starts. Without it that takes longer, no more: so the
    /// groups that fell asleep last have it, and others have none.
    pub(crate) fn prepare(self: &Rc<Self>, app: &App) {
        let is_prepared = |template: &Template| template.prepare(app.rings_of(self)).is_ok();
        if !self.template.borrow().as_ref().is_some_and(is_prepared) {
            return;
        }
        let mut prepared = app.node.prepared.borrow_mut();
        prepared.retain(|other| !std::ptr::eq(other.as_ptr(), Rc::as_ptr(self)));
        prepared.push_back(Rc::downgrade(self));
        if prepared.len() > PREPARED_MAX
            && let Some(oldest) = prepared.pop_front().and_then(|oldest| oldest.upgrade())
            && let Some(template) = oldest.template.borrow().as_ref()
        {
            template.unprepare();
        }
    }

    /// How long its template took to load, told once.
    fn take_load(&self) -> Option<Duration> {
        self.load.take()
    }

    /// Kills its template, and all its cells with it.
    pub(crate) fn kill(&self) {
        if let Some(template) = self.template.borrow().as_ref() {
            template.kill();
        }
    }

    /// Notes that one of its functions makes long calls of another in parallel; `false` if that is known.
    pub(crate) fn wants_edges(&self, caller: usize, callee: usize) -> bool {
        self.edges.borrow_mut().insert((caller, callee))
    }

    /// Whether there are edges between its cells from one function to another.
    pub(crate) fn has_edges(&self, caller: usize, callee: usize) -> bool {
        self.edges.borrow().contains(&(caller, callee))
    }

    fn cell(&self, number: u32) -> Option<Rc<baton_replica::Cell>> {
        self.cells.borrow().get(&number).cloned()
    }

    fn forget_cell(&self, number: u32) {
        self.cells.borrow_mut().remove(&number);
    }

    /// The template is gone, and so are all cells.
    fn orphan_cells(&self, reason: ExitReason) {
        for cell in self.cells.borrow().values() {
            cell.ended(reason);
        }
        self.turned.notify_waiters();
    }
}

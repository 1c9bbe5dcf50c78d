//! The snapshots of a group: found before its template loads, kept when it has made new ones, forgotten when it refuses one.
//! They are in memory only while a template takes them, or where they cannot be stored.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use baton_replica::probe;

use super::Group;
use super::introduce::setup;
use crate::app::App;
use crate::snapshots::{Image, Origin, SnapshotKey};

/// Looks for stored snapshots of functions that have none in memory.
pub(super) async fn find_images(app: &Rc<App>, group: &Rc<Group>, entries: &[Vec<u8>]) {
    let Some(snapshots) = app.node.snapshots.clone() else { return };
    let setup = setup(app, group, 0);
    for (seat, (state, plan)) in app.of_group(group).zip(entries).enumerate() {
        if group.images.borrow().get(seat).is_some_and(Option::is_some) {
            continue;
        }
        if !state.secrets.is_empty() {
            // Its memory holds them: without a key it is never written to the disk, and a name made of them would be something
            // to try guesses on. In this node's memory it stays, for this start of the version alone.
            continue;
        }
        let mut setting = setup.abi_version.to_le_bytes().to_vec();
        setting.extend((setup.trust as u32).to_le_bytes());
        setting.extend(setup.pool_bytes.to_le_bytes());
        setting.extend(setup.slots.to_le_bytes());
        setting.extend((seat as u64).to_le_bytes());
        let (snapshots, plan) = (Arc::clone(&snapshots), plan.clone());
        let (executable, program) = (state.artifact.clone(), group.program.clone());
        let host = state.host.clone();
        let files = state.files.as_ref().map(|files| files.bundle.clone());
        let work = move || {
            let processor = probe::processor();
            let origin = Origin {
                executable: &executable,
                host: host.as_deref(),
                files: files.as_deref(),
                program: &program,
                plan: &plan,
                setting: &setting,
                processor: &processor,
            };
            let key = origin.key(&snapshots.hashes)?;
            Ok((key, snapshots.fetch(key)))
        };
        let found: std::io::Result<(SnapshotKey, _)> = match tokio::task::spawn_blocking(work).await {
            Ok(found) => found,
            Err(_) => return,
        };
        let Ok((key, fetched)) = found else { continue };
        if let Err(error) = &fetched {
            let name = &state.name;
            app.node.say(&app.name, "warn", &format!("{name}: its stored snapshot is not used: {error}"));
        }
        if let Some(place) = group.keys.borrow_mut().get_mut(seat) {
            *place = Some(key);
        }
        if let (Some(place), Ok(Some(image))) = (group.images.borrow_mut().get_mut(seat), fetched) {
            *place = Some(image);
            group.from_disk.borrow_mut().push(seat);
        }
    }
}

/// The template takes a snapshot for none: no function of the group starts from one now.
pub(super) fn forget_images(app: &Rc<App>, group: &Group, name: &str, why: &str) {
    app.node.say(&app.name, "warn", &format!("{name}: its snapshot is not used: {why}"));
    group.images.borrow_mut().fill_with(|| None);
    let keys = std::mem::take(&mut *group.keys.borrow_mut());
    if let Some(snapshots) = &app.node.snapshots {
        for key in keys.iter().flatten() {
            snapshots.forget(*key);
        }
    }
    *group.keys.borrow_mut() = vec![None; group.seats.len()];
}

/// A new snapshot: kept in memory for the next template, and on the disk for the next node.
pub(super) fn keep_image(app: &Rc<App>, group: &Rc<Group>, seat: usize, fd: OwnedFd) {
    let Some(image) = Image::sealed(fd) else {
        tracing::warn!(app = app.name, seat, "a snapshot that could still change is not kept");
        return;
    };
    let key = group.keys.borrow().get(seat).copied().flatten();
    if let (Some(key), Some(snapshots), Ok(copy)) = (key, app.node.snapshots.clone(), image.try_clone()) {
        let name = app.name.clone();
        let group = Rc::clone(group);
        tokio::task::spawn_local(async move {
            let kept = tokio::task::spawn_blocking(move || snapshots.keep(key, &copy)).await;
            match kept {
                Ok(Ok(())) if group.keys.borrow().get(seat) == Some(&Some(key)) => group.let_go_of(seat),
                Ok(Err(error)) => tracing::warn!(app = name, seat, %error, "a snapshot is not stored"),
                Ok(Ok(())) | Err(_) => {}
            }
        });
    }
    if let Some(place) = group.images.borrow_mut().get_mut(seat) {
        *place = Some(image);
    }
}

impl Group {
    /// What is on the disk need not be in memory: the next template finds it there.
    fn let_go_of(&self, seat: usize) {
        if let Some(place) = self.images.borrow_mut().get_mut(seat) {
            *place = None;
        }
    }

    /// The same for all that came from the disk, once a template has it.
    pub(super) fn let_go_of_stored(&self) {
        let keys = self.keys.borrow();
        let from_snapshot = self.from_disk.take();
        for seat in from_snapshot.into_iter().filter(|&seat| keys.get(seat).is_some_and(Option::is_some)) {
            self.let_go_of(seat);
        }
    }
}

//! Calls whose payloads are on the disk before they leave for another node: edges that the manifest calls `durable`.
//!
//! ```text
//!   call ─▶ file, synced ─▶ call on another node ─▶ answered, or given up by its caller ─▶ file removed
//!                               ✗ this node dies
//!   next start ─▶ what lies there is called again, until it is answered
//! ```
//! A call is made at least once: the node may have died after the callee had done its work. What is answered to a call that is
//! made again goes to nobody; the log says so.
//!
//! ```text
//!  file: magic 8 │ header's len 4 │ header, JSON │ head's len 4 │ head │ body's len 8 │ body          little endian
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use baton_pool::region::View;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::app::App;
use crate::elsewhere::{self, Errand};
use crate::error::InvokeError;
use crate::hosting::Hosting;
use crate::invoke::{Body, Head, Origin, Upload};
use crate::landing::Landing;

/// Bytes that all calls on the disk may have together.
pub(crate) const SPILL_BYTES_MAX: u64 = 1 << 30;
/// How often a call is begun again that comes to no answer.
const ATTEMPTS_MAX: u32 = 10;
/// How long it is waited between attempts, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

const MAGIC: [u8; 8] = *b"batonsp1";
const INCOMING: &str = ".incoming-";
/// A header has names and numbers only.
const HEADER_MAX: usize = 4096;
const CHUNK: usize = 256 * 1024;

/// What a file is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) app: String,
    pub(crate) caller: String,
    pub(crate) callee: String,
    pub(crate) operation: u16,
}

/// The directory, and what is in it.
#[derive(Debug)]
pub(crate) struct Spill {
    directory: PathBuf,
    bytes: Cell<u64>,
    next: Cell<u64>,
    /// Files of an earlier life of this node, by app.
    left: RefCell<BTreeMap<String, Vec<PathBuf>>>,
}

/// A call that is on the disk for as long as this lives.
pub(crate) struct Kept {
    spill: Rc<Spill>,
    path: PathBuf,
    bytes: u64,
    app: Rc<App>,
}

impl Spill {
    /// Makes the directory if need be, and looks what an earlier life left.
    pub(crate) fn open(directory: &Path) -> io::Result<Spill> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let (mut left, mut bytes): (BTreeMap<String, Vec<PathBuf>>, u64) = (BTreeMap::new(), 0);
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(INCOMING) {
                // It was never whole, and its caller was never told that it is safe.
                fs::remove_file(entry.path())?;
                continue;
            }
            match File::open(entry.path()).and_then(|mut file| read_about(&mut file)) {
                Ok(about) => {
                    bytes += entry.metadata()?.len();
                    left.entry(about.app).or_default().push(entry.path());
                }
                Err(error) => {
                    tracing::error!(file = %entry.path().display(), %error, "no call can be read from it; it stays where it is");
                }
            }
        }
        // In the order in which they were made.
        left.values_mut().for_each(|files| files.sort());
        let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let first = u64::try_from(start.as_micros()).unwrap_or(0);
        Ok(Spill {
            directory: directory.to_owned(),
            bytes: Cell::new(bytes),
            next: Cell::new(first),
            left: RefCell::new(left),
        })
    }

    /// Puts a call on the disk.
    pub(crate) async fn keep(
        self: &Rc<Self>,
        app: &Rc<App>,
        about: About,
        head: &[u8],
        body: &Body,
    ) -> Result<Kept, InvokeError> {
        let view = body.in_pool().map(|(_, view)| view);
        let small = if view.is_none() { body.to_vec() } else { Vec::new() };
        let len = view.as_ref().map_or(small.len() as u64, View::len);
        let bytes = len.saturating_add((HEADER_MAX + head.len()) as u64);
        if self.bytes.get().saturating_add(bytes) > SPILL_BYTES_MAX {
            return Err(InvokeError::NotKept { why: "as much as may lies there already" });
        }
        let number = self.next.get();
        self.next.set(number + 1);
        let path = self.directory.join(format!("{number:020}"));
        self.bytes.set(self.bytes.get() + bytes);
        let kept = Kept { spill: Rc::clone(self), path: path.clone(), bytes, app: Rc::clone(app) };
        let (directory, head) = (self.directory.clone(), head.to_vec());
        let written = spawn_blocking(move || {
            let incoming = directory.join(format!("{INCOMING}{number:020}"));
            let result = write(&incoming, &about, &head, view.as_ref(), &small)
                .and_then(|()| fs::rename(&incoming, &path))
                .and_then(|()| File::open(&directory)?.sync_all());
            if result.is_err() {
                // What is in the way of other calls goes; that it cannot go changes nothing for this one.
                let _ = fs::remove_file(&incoming);
            }
            result
        });
        match written.await {
            Ok(Ok(())) => Ok(kept),
            Ok(Err(error)) if error.kind() == io::ErrorKind::StorageFull => {
                Err(InvokeError::NotKept { why: "the disk is full" })
            }
            Ok(Err(error)) => {
                tracing::error!(directory = %self.directory.display(), %error, "a durable call cannot be written");
                Err(InvokeError::NotKept { why: "the disk cannot be written" })
            }
            Err(_) => Err(InvokeError::Draining),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // A node that goes down leaves it to its next life.
        if self.app.node.draining.get() {
            return;
        }
        self.spill.bytes.set(self.spill.bytes.get().saturating_sub(self.bytes));
        let path = core::mem::take(&mut self.path);
        spawn_blocking(move || fs::remove_file(path));
    }
}

fn write(path: &Path, about: &About, head: &[u8], view: Option<&View>, small: &[u8]) -> io::Result<()> {
    let header = serde_json::to_vec(about)?;
    let len_of = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let body_len = view.map_or(small.len() as u64, View::len);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&MAGIC)?;
    file.write_all(&len_of(&header))?;
    file.write_all(&header)?;
    file.write_all(&len_of(head))?;
    file.write_all(head)?;
    file.write_all(&body_len.to_le_bytes())?;
    match view {
        Some(view) => file.write_all(view.pass_on())?,
        None => file.write_all(small)?,
    }
    file.sync_all()
}

fn read_block(file: &mut File, most: usize) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    file.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a length beyond all bounds"));
    }
    let mut block = vec![0; len];
    file.read_exact(&mut block)?;
    Ok(block)
}

fn read_about(file: &mut File) -> io::Result<About> {
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no call"));
    }
    Ok(serde_json::from_slice(&read_block(file, HEADER_MAX)?)?)
}

/// Makes the calls again that an earlier life of this node left of `app`, one after the other.
pub(crate) fn resume(app: &Rc<App>) {
    let Some(spill) = app.node.spill.clone() else { return };
    let Some(files) = spill.left.borrow_mut().remove(&app.name) else { return };
    tracing::info!(app = app.name, calls = files.len(), "durable calls of an earlier life are made again");
    let app = Rc::clone(app);
    tokio::task::spawn_local(async move {
        let mut files = files.into_iter();
        while let Some(path) = files.next() {
            if !again(&app, &path).await {
                // The app was stopped: its next version goes on.
                let rest: Vec<PathBuf> = std::iter::once(path).chain(files).collect();
                spill.left.borrow_mut().insert(app.name.clone(), rest);
                return;
            }
            let bytes = fs::metadata(&path).map_or(0, |about| about.len());
            spill.bytes.set(spill.bytes.get().saturating_sub(bytes));
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(file = %path.display(), %error, "a call that was made again cannot be removed");
            }
        }
    });
}

/// Makes one call until it is answered. `false`: the app was stopped before.
async fn again(app: &Rc<App>, path: &Path) -> bool {
    let (mut attempts, mut pause) = (0, PAUSE_MIN);
    loop {
        if app.stopping.get() || app.node.draining.get() {
            return false;
        }
        let (about, outcome) = match attempt(app, path).await {
            Ok(tried) => tried,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "a durable call cannot be read, and is given up");
                return true;
            }
        };
        let names = format!("the durable call of {} to {}", about.caller, about.callee);
        match outcome {
            Ok(status) => {
                app.node.say(&app.name, "info", &format!("{names} was made again: status {status}"));
                return true;
            }
            Err(InvokeError::Function { status, message }) => {
                app.node.say(
                    &app.name,
                    "warn",
                    &format!("{names} was made again: status {status}: {message}"),
                );
                return true;
            }
            Err(InvokeError::Unknown) => {
                app.node.say(
                    &app.name,
                    "error",
                    &format!("{names} is given up: there is no such function any more"),
                );
                return true;
            }
            // It was not begun, or there is no room: that is no attempt.
            Err(
                InvokeError::NoNode { .. }
                | InvokeError::NoReplica { .. }
                | InvokeError::QueueFull
                | InvokeError::PoolFull,
            ) => {}
            Err(error) => {
                attempts += 1;
                if attempts == ATTEMPTS_MAX {
                    app.node.say(
                        &app.name,
                        "error",
                        &format!("{names} is given up after {attempts} attempts: {error}"),
                    );
                    return true;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn attempt(app: &Rc<App>, path: &Path) -> io::Result<(About, Result<u16, InvokeError>)> {
    let mut file = File::open(path)?;
    let about = read_about(&mut file)?;
    let head = read_block(&mut file, baton_abi::limits::HEAD_MAX_BYTES)?;
    let mut len = [0; 8];
    file.read_exact(&mut len)?;
    let len = u64::from_le_bytes(len);
    let callee = app.functions.iter().position(|state| state.name.as_str() == about.callee);
    let Some((callee, state)) = callee.and_then(|callee| Some((callee, app.functions.get(callee)?))) else {
        return Ok((about, Err(InvokeError::Unknown)));
    };
    let landing = match Landing::begin(app, &Head { bytes: head.clone(), ..Head::default() }, Some(len)) {
        Ok(landing) => landing,
        Err(error) => return Ok((about, Err(error))),
    };
    let mut landing = load(landing, file, len).await?;
    let (operation, invocation) = (about.operation, app.node.next_invocation());
    let timeout = state.spec.timeout.duration();
    let outcome = if state.hosting == Hosting::Elsewhere {
        let deadline = Instant::now() + timeout;
        let body = Rc::new(landing.take_body());
        let errand =
            Errand { function: callee, operation, invocation, is_recorded: false, deadline, head, body };
        elsewhere::call(app, &errand).await.map(|landed| landed.status)
    } else {
        let origin = Origin::Node { operation, invocation, is_recorded: false, timeout };
        Upload::landed(app, callee, landing, origin).finish().await.map(|reply| reply.status())
    };
    Ok((about, outcome))
}

/// The body of a file, piece by piece, so that no other call waits for the disk.
async fn load(mut landing: Landing, mut file: File, len: u64) -> io::Result<Landing> {
    let mut left = len;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let read = spawn_blocking(move || {
            let mut bytes = vec![0; piece];
            file.read_exact(&mut bytes).map(|()| (file, bytes))
        });
        let (back, bytes) = read.await.map_err(io::Error::other)??;
        file = back;
        landing.write(&bytes).map_err(io::Error::other)?;
        left -= bytes.len() as u64;
    }
    Ok(landing)
}

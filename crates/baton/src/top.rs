//! `baton top`: what goes on, in a terminal, from moment to moment.
//!
//! ```text
//!   a thread of its own: asks the node, waits ──rows──▶ this thread: keys, rates, drawing ──▶ the terminal
//! ```
//!
//! The terminal is given back as it was however this ends: by a key, a signal, an error or a panic.

mod screen;
mod state;
mod table;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use self::state::State;
use crate::cli::TopArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{json_out, line_out};
use crate::overview::{Overview, Rates};
use crate::verbs::block_on;

/// How long a key may wait to be seen.
const KEY_WITHIN: Duration = Duration::from_millis(50);
/// Width of a snapshot that no terminal shows.
const SNAPSHOT_WIDTH: u16 = 140;

/// What the thread that asks the node says.
enum News {
    Overview(Box<Overview>),
    Trouble(String),
    /// The process is to end.
    End,
}

/// Runs the verb.
pub(crate) fn run(home: &Path, args: &TopArgs) -> Result<(), Failure> {
    let client = Client::new(home);
    let every = Duration::from_secs(args.every);
    if args.json {
        return follow(&client, args, every);
    }
    if args.once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return snapshot(&client, args, every);
    }
    // A node that is not there is told before the terminal is taken over.
    let first: Overview = block_on(client.get("/v1/overview"))?;
    let (sender, news) = sync_channel(1);
    std::thread::Builder::new()
        .name("baton-top".to_owned())
        .spawn(move || ask(&client, every, &sender))
        .map_err(|error| Failure::failed(format_args!("cannot start a thread: {error}"), ""))?;
    let mut state = State::new(args.app.clone(), args.sort, every);
    state.take(first);
    let mut terminal = ratatui::try_init().map_err(|error| terminal_failure(&error))?;
    let restored = Restored;
    let ended = watch(&mut terminal, &mut state, &news);
    drop(restored);
    ended.map_err(|error| terminal_failure(&error))
}

fn terminal_failure(error: &io::Error) -> Failure {
    Failure::failed(format_args!("the terminal fails: {error}"), "`baton top --once` prints one snapshot")
}

/// Gives the terminal back when it goes; panics do the same before they print.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Draws, and does what keys say, until one says to end.
fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    state: &mut State,
    news: &Receiver<News>,
) -> io::Result<()> {
    let mut stale = true;
    loop {
        if stale {
            terminal.draw(|frame| screen::draw(frame, state))?;
        }
        stale = false;
        while let Ok(next) = news.try_recv() {
            match next {
                News::Overview(overview) => state.take(*overview),
                News::Trouble(trouble) => state.trouble = Some(trouble),
                News::End => return Ok(()),
            }
            stale = true;
        }
        if !event::poll(KEY_WITHIN)? {
            continue;
        }
        stale = true;
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release && state.key(key).is_break() => {
                return Ok(());
            }
            _ => {}
        }
    }
}

/// Asks the node again and again, until nobody wants to know or a signal ends the process.
fn ask(client: &Client, every: Duration, sender: &SyncSender<News>) {
    let asking = async {
        let signals = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
        let [Ok(mut term), Ok(mut hangup), Ok(mut interrupt)] = signals else { return Ok(()) };
        loop {
            tokio::select! {
                _ = term.recv() => break,
                _ = hangup.recv() => break,
                _ = interrupt.recv() => break,
                () = tokio::time::sleep(every) => {}
            }
            let next = match tokio::time::timeout(Duration::from_secs(10), client.get("/v1/overview")).await {
                Ok(Ok(overview)) => News::Overview(Box::new(overview)),
                Ok(Err(failure)) => News::Trouble(failure.message().to_owned()),
                Err(_) => News::Trouble("the node does not answer".to_owned()),
            };
            if sender.send(next).is_err() {
                return Ok(());
            }
        }
        let _ = sender.send(News::End);
        Ok(())
    };
    let _: Result<(), Failure> = block_on(asking);
}

async fn two(client: &Client, every: Duration) -> Result<(Overview, Overview), Failure> {
    let before = client.get("/v1/overview").await?;
    tokio::time::sleep(every).await;
    Ok((before, client.get("/v1/overview").await?))
}

/// One object a line; with `--once`, one.
fn follow(client: &Client, args: &TopArgs, every: Duration) -> Result<(), Failure> {
    block_on(async {
        let (mut before, mut now) = two(client, every).await?;
        loop {
            let mut rates = Rates::between(&before, &now);
            rates.only(args.app.as_deref())?;
            json_out(&rates)?;
            if args.once {
                return Ok(());
            }
            tokio::time::sleep(every).await;
            before = now;
            now = client.get("/v1/overview").await?;
        }
    })
}

/// One plain page, for who reads it later.
fn snapshot(client: &Client, args: &TopArgs, every: Duration) -> Result<(), Failure> {
    let (before, now) = block_on(two(client, every))?;
    let mut state = State::new(args.app.clone(), args.sort, every);
    if let Some(app) = &args.app {
        Rates::between(&before, &now).only(Some(app))?;
    }
    state.take(before);
    state.take(now);
    for line in screen::plain(&state, SNAPSHOT_WIDTH) {
        line_out(&line)?;
    }
    Ok(())
}

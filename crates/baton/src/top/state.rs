//! What is shown and how: the newest rates, the order, the search, what is chosen; and what keys do to it.

use std::ops::ControlFlow;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::cli::SortKey;
use crate::overview::{EdgeRates, FunctionRates, Overview, Rates};

/// Characters that a search may have.
const SEARCH_CHARS_MAX: usize = 60;

/// What the lower part of the screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    /// Functions only.
    Functions,
    /// Functions, and the calls of the one that is chosen.
    Calls,
}

/// Everything that is drawn.
#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Option<Overview>,
    pub(super) rates: Option<Rates>,
    pub(super) app: Option<String>,
    pub(super) sort: SortKey,
    pub(super) reversed: bool,
    pub(super) search: String,
    /// Whether keys go into the search.
    pub(super) searching: bool,
    pub(super) chosen: usize,
    pub(super) pane: Pane,
    pub(super) help: bool,
    pub(super) paused: bool,
    pub(super) every: Duration,
    /// Why what is shown is old.
    pub(super) trouble: Option<String>,
}

impl State {
    pub(super) fn new(app: Option<String>, sort: SortKey, every: Duration) -> Self {
        Self {
            now: None,
            rates: None,
            app,
            sort,
            reversed: false,
            search: String::new(),
            searching: false,
            chosen: 0,
            pane: Pane::Calls,
            help: false,
            paused: false,
            every,
            trouble: None,
        }
    }

    /// Takes in what the node says.
    pub(super) fn take(&mut self, overview: Overview) {
        self.trouble = None;
        if self.paused {
            return;
        }
        // The first moment makes rates since the node's start.
        let rates = match &self.now {
            Some(before) => Rates::between(before, &overview),
            None => {
                let mut start = overview.clone();
                start.at_ms = u64::MAX;
                Rates::between(&start, &overview)
            }
        };
        self.rates = Some(rates);
        self.now = Some(overview);
        self.stay_within();
    }

    /// The functions that are shown, in order.
    pub(super) fn rows(&self) -> Vec<&FunctionRates> {
        let Some(rates) = &self.rates else { return Vec::new() };
        let wanted = self.search.to_lowercase();
        let fits = |row: &&FunctionRates| {
            self.app.as_ref().is_none_or(|app| *app == row.app)
                && (wanted.is_empty()
                    || format!("{}/{}", row.app, row.function).to_lowercase().contains(&wanted))
        };
        let mut rows: Vec<&FunctionRates> = rates.functions.iter().filter(fits).collect();
        rows.sort_by(|a, b| {
            let names = || (&a.app, &a.function).cmp(&(&b.app, &b.function));
            let order = match self.sort {
                SortKey::Name => names(),
                key => figure(key, b).total_cmp(&figure(key, a)).then_with(names),
            };
            if self.reversed { order.reverse() } else { order }
        });
        rows
    }

    /// The calls to and from the function that is chosen.
    pub(super) fn calls(&self) -> Vec<&EdgeRates> {
        let (Some(rates), Some(row)) = (&self.rates, self.rows().get(self.chosen).copied()) else {
            return Vec::new();
        };
        let near = |edge: &&EdgeRates| {
            edge.app == row.app && (edge.caller == row.function || edge.callee == row.function)
        };
        rates.edges.iter().filter(near).collect()
    }

    fn stay_within(&mut self) {
        self.chosen = self.chosen.min(self.rows().len().saturating_sub(1));
    }

    fn step(&mut self, by: isize) {
        self.chosen = self.chosen.saturating_add_signed(by);
        self.stay_within();
    }

    /// Does what a key says; breaks if it says to end.
    pub(super) fn key(&mut self, key: KeyEvent) -> ControlFlow<()> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
        }
        if self.searching {
            self.search_key(key.code);
            return ControlFlow::Continue(());
        }
        if self.help {
            self.help = false;
            return ControlFlow::Continue(());
        }
        match key.code {
            KeyCode::Char('q') => return ControlFlow::Break(()),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('/') => self.searching = true,
            KeyCode::Char(' ' | 'p') => self.paused = !self.paused,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('s' | '>') | KeyCode::Right => self.sort = self.sort.after(1),
            KeyCode::Char('S' | '<') | KeyCode::Left => self.sort = self.sort.after(SortKey::ALL.len() - 1),
            KeyCode::Char('e') | KeyCode::Tab => {
                self.pane = if self.pane == Pane::Calls { Pane::Functions } else { Pane::Calls };
            }
            KeyCode::Char('a') => self.next_app(),
            KeyCode::Enter => {
                self.app = self.rows().get(self.chosen).map(|row| row.app.clone()).or(self.app.take())
            }
            KeyCode::Esc => {
                self.app = None;
                self.search.clear();
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(20),
            KeyCode::PageUp => self.step(-20),
            KeyCode::Home | KeyCode::Char('g') => self.chosen = 0,
            KeyCode::End | KeyCode::Char('G') => self.chosen = usize::MAX,
            _ => {}
        }
        self.stay_within();
        ControlFlow::Continue(())
    }

    fn search_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.searching = false,
            KeyCode::Esc => {
                self.searching = false;
                self.search.clear();
            }
            KeyCode::Backspace => {
                self.search.pop();
            }
            KeyCode::Char(c) if !c.is_control() && self.search.chars().count() < SEARCH_CHARS_MAX => {
                self.search.push(c)
            }
            _ => {}
        }
        self.stay_within();
    }

    /// All apps, then one after the other.
    fn next_app(&mut self) {
        let Some(now) = &self.now else { return };
        let names: Vec<&String> = now.apps.iter().map(|app| &app.app).collect();
        let next = match &self.app {
            None => names.first(),
            Some(app) => names.iter().position(|name| *name == app).and_then(|at| names.get(at + 1)),
        };
        self.app = next.map(|name| (*name).clone());
    }
}

/// What functions are ordered by; unknown figures come last.
fn figure(key: SortKey, row: &FunctionRates) -> f64 {
    let time = |ns: Option<u64>| ns.map_or(-1.0, |ns| ns as f64);
    match key {
        SortKey::Rate => row.calls_per_s,
        SortKey::Errors => row.errors_per_s,
        SortKey::P50 => time(row.p50_ns.or(row.mean_ns)),
        SortKey::P99 => time(row.p99_ns),
        SortKey::Flight => row.in_flight as f64,
        SortKey::Queue => row.queued as f64,
        SortKey::Replicas => row.replicas as f64,
        SortKey::Cpu => row.cpu_cores.unwrap_or(-1.0),
        SortKey::Name => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::tests::overview;

    fn state() -> State {
        let mut state = State::new(None, SortKey::Rate, Duration::from_secs(1));
        state.take(overview(10_000, 100));
        state.take(overview(12_000, 300));
        state
    }

    fn names(state: &State) -> Vec<&str> {
        state.rows().into_iter().map(|row| row.function.as_str()).collect()
    }

    fn press(state: &mut State, codes: &[KeyCode]) {
        for &code in codes {
            assert!(state.key(KeyEvent::from(code)).is_continue(), "{code:?}");
        }
    }

    #[test]
    fn rows_are_sorted_and_searched() {
        let mut state = state();
        assert_eq!(names(&state), ["cart", "front", "ad"]);
        press(&mut state, &[KeyCode::Char('r')]);
        assert_eq!(names(&state), ["ad", "front", "cart"]);
        press(
            &mut state,
            &[KeyCode::Char('r'), KeyCode::Char('/'), KeyCode::Char('A'), KeyCode::Char('r'), KeyCode::Enter],
        );
        assert_eq!(names(&state), ["cart"]);
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!(names(&state).len(), 3);
    }

    #[test]
    fn every_order_comes_round() {
        let mut state = state();
        for _ in SortKey::ALL {
            press(&mut state, &[KeyCode::Char('s')]);
            assert_eq!(state.rows().len(), 3);
        }
        assert_eq!(state.sort, SortKey::Rate);
        press(&mut state, &[KeyCode::Char('S')]);
        assert_eq!(state.sort, SortKey::Name);
        assert_eq!(names(&state), ["ad", "cart", "front"]);
    }

    #[test]
    fn the_choice_stays_within_the_rows() {
        let mut state = state();
        press(&mut state, &[KeyCode::Up, KeyCode::PageUp]);
        assert_eq!(state.chosen, 0);
        press(&mut state, &[KeyCode::End]);
        assert_eq!(state.chosen, 2);
        press(&mut state, &[KeyCode::Char('/'), KeyCode::Char('z')]);
        assert_eq!((state.chosen, state.rows().len()), (0, 0));
        assert!(state.calls().is_empty());
    }

    #[test]
    fn apps_are_focused_one_after_the_other() {
        let mut state = state();
        press(&mut state, &[KeyCode::Char('a')]);
        assert_eq!(state.app.as_deref(), Some("shop"));
        press(&mut state, &[KeyCode::Char('a')]);
        assert_eq!(state.app, None);
        press(&mut state, &[KeyCode::Enter]);
        assert_eq!(state.app.as_deref(), Some("shop"));
    }

    #[test]
    fn q_and_control_c_end_it_but_not_while_searching() {
        let mut state = state();
        assert!(state.key(KeyEvent::from(KeyCode::Char('q'))).is_break());
        press(&mut state, &[KeyCode::Char('/'), KeyCode::Char('q')]);
        assert_eq!(state.search, "q");
        assert!(state.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)).is_break());
    }

    #[test]
    fn a_pause_keeps_what_is_shown() {
        let mut state = state();
        press(&mut state, &[KeyCode::Char('p')]);
        state.take(overview(14_000, 9_000));
        assert_eq!(state.now.as_ref().map(|now| now.at_ms), Some(12_000));
    }

    #[test]
    fn calls_are_those_of_the_chosen_function() {
        let mut state = state();
        assert_eq!(state.calls().len(), 1, "the cart is only called");
        press(&mut state, &[KeyCode::Down]);
        assert_eq!(state.calls().len(), 2);
    }
}

//! Drawing: two lines of figures, functions, the calls of the one that is chosen, and what keys do.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph, StatefulWidget, TableState, Widget};

use super::state::{Pane, State};
use super::table::{self, count, harmless};
use crate::output::bytes;

/// Lines of the table of calls, its heading included, at most.
const CALLS_HEIGHT: u16 = 10;
/// The lowest screen that shows calls beside functions.
const CALLS_FROM_HEIGHT: u16 = 16;
const HELP: &[(&str, &str)] = &[
    ("↑ ↓  PgUp PgDn  Home End", "choose a function"),
    ("← →  or  S s", "order by another figure; r turns it round"),
    ("/", "search; Enter keeps it, Esc ends it"),
    ("Enter", "only the app of the chosen function; Esc: all again"),
    ("a", "one app after the other"),
    ("e  or  Tab", "calls of the chosen function, on and off"),
    ("p  or  space", "pause"),
    ("?", "this help"),
    ("q  or  Ctrl-C", "end"),
];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    paint(area, frame.buffer_mut(), state);
}

fn paint(area: Rect, buffer: &mut Buffer, state: &State) {
    let calls = state.calls();
    let wanted = u16::try_from(calls.len()).unwrap_or(u16::MAX).saturating_add(2).min(CALLS_HEIGHT);
    let shows_calls = state.pane == Pane::Calls && !calls.is_empty() && area.height >= CALLS_FROM_HEIGHT;
    let parts = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(if shows_calls { wanted } else { 0 }),
        Constraint::Length(1),
    ]);
    let [top, _, main, below, keys] = parts.areas(area);
    Paragraph::new(figures(state)).render(top, buffer);
    let rows = state.rows();
    if rows.is_empty() {
        Paragraph::new(nothing(state)).style(Style::new().fg(Color::DarkGray)).render(main, buffer);
    } else {
        let table = table::functions(&rows, main.width, (state.sort, state.reversed))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut at = TableState::new().with_selected(Some(state.chosen));
        StatefulWidget::render(table, main, buffer, &mut at);
    }
    if shows_calls {
        let [_, below] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(below);
        Widget::render(table::calls(&calls, below.width), below, buffer);
    }
    Paragraph::new(footer(state)).render(keys, buffer);
    if state.help {
        help(area, buffer);
    }
}

fn nothing(state: &State) -> &'static str {
    let some = state.rates.as_ref().is_some_and(|rates| !rates.functions.is_empty());
    if some {
        "no function fits; Esc shows all"
    } else {
        "nothing is deployed; `baton deploy DIR` deploys an app"
    }
}

/// What the whole node does, in two lines.
fn figures(state: &State) -> Vec<Line<'static>> {
    let quiet = Style::new().fg(Color::DarkGray);
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let (Some(now), Some(rates)) = (&state.now, &state.rates) else { return vec![Line::from("…")] };
    let cluster = now
        .cluster
        .as_ref()
        .map(|cluster| format!(", {} of {} nodes", harmless(&cluster.node), cluster.nodes.len()));
    let mut first = vec![
        Span::styled("baton top", strong),
        Span::styled(format!("  node {}{}", harmless(&now.node.version), cluster.unwrap_or_default()), quiet),
        Span::styled(format!("  up {}", up(now.node.uptime_s)), quiet),
        Span::raw(format!(
            "  {}",
            state
                .app
                .as_ref()
                .map_or_else(|| format!("{} apps", now.apps.len()), |app| format!("app {}", harmless(app)))
        )),
    ];
    if !now.failed.is_empty() {
        let names: Vec<String> = now.failed.iter().take(3).map(|failed| harmless(&failed.app)).collect();
        first.push(Span::styled(format!("  not started: {}", names.join(", ")), Style::new().fg(Color::Red)));
    }
    if state.paused {
        first.push(Span::styled("  paused", Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD)));
    }
    if let Some(trouble) = &state.trouble {
        let text = format!("  {}", harmless(trouble));
        first.push(Span::styled(text, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)));
    }
    let (used, all) = now.apps.iter().map(|app| &app.pool).fold((0, 0), |(used, all), pool| {
        (used + pool.pool_bytes.saturating_sub(pool.free_bytes), all + pool.pool_bytes)
    });
    let sum = |of: fn(&crate::overview::FunctionRates) -> u64| rates.functions.iter().map(of).sum::<u64>();
    let failing = if rates.failures_per_s > 0.0 {
        Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
    } else {
        strong
    };
    let second = [
        (count(rates.requests_per_s), "requests/s", strong),
        (count(rates.failures_per_s), "failed/s", failing),
        (rates.in_flight.to_string(), "in flight", strong),
        (sum(|f| f.queued).to_string(), "waiting", strong),
        (format!("{}/{}", sum(|f| f.ready), sum(|f| f.replicas)), "replicas", strong),
        (format!("{:.2}", rates.cpu_cores), "cores", strong),
        (bytes(used), "", strong),
    ];
    let mut second: Vec<Span<'static>> = second
        .into_iter()
        .flat_map(|(value, word, style)| {
            [Span::styled(value, style), Span::styled(format!(" {word}  "), quiet)]
        })
        .collect();
    second.pop();
    second.push(Span::styled(format!(" of {} of pools", bytes(all)), quiet));
    vec![Line::from(first), Line::from(second)]
}

fn up(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn footer(state: &State) -> Line<'static> {
    let quiet = Style::new().fg(Color::DarkGray);
    if state.searching {
        return Line::from(vec![
            Span::styled("/", Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(state.search.clone()),
            Span::styled("▏", Style::new().add_modifier(Modifier::SLOW_BLINK)),
        ]);
    }
    let search = if state.search.is_empty() { String::new() } else { format!("“{}”  ", state.search) };
    let every = state.every.as_secs();
    Line::from(vec![
        Span::styled(search, Style::new().fg(Color::Yellow)),
        Span::styled(
            format!(
                "? help  / search  s sort: {}  a app  e calls  p pause  q end   every {every} s",
                state.sort.word()
            ),
            quiet,
        ),
    ])
}

fn help(area: Rect, buffer: &mut Buffer) {
    let (width, height) = (
        74.min(area.width),
        (u16::try_from(HELP.len()).unwrap_or(u16::MAX).saturating_add(2)).min(area.height),
    );
    let frame =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(frame, buffer);
    let lines = HELP.iter().map(|(keys, what)| {
        Line::from(vec![
            Span::styled(format!(" {keys:<26}"), Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(*what),
        ])
    });
    let block = Block::bordered().border_type(BorderType::Rounded).title(" keys ");
    Paragraph::new(lines.collect::<Vec<_>>()).block(block).render(frame, buffer);
}

/// The same as lines of plain text, with all functions and all calls.
pub(super) fn plain(state: &State, width: u16) -> Vec<String> {
    let mut lines: Vec<String> = figures(state).iter().map(ToString::to_string).collect();
    let rows = state.rows();
    lines.push(String::new());
    if rows.is_empty() {
        lines.push(nothing(state).to_owned());
        return lines;
    }
    lines.extend(text(table::functions(&rows, width, (state.sort, state.reversed)), rows.len(), width));
    let shown = |edge: &&crate::overview::EdgeRates| state.app.as_ref().is_none_or(|app| *app == edge.app);
    let calls: Vec<_> = state.rates.iter().flat_map(|rates| &rates.edges).filter(shown).collect();
    if !calls.is_empty() {
        lines.push(String::new());
        lines.extend(text(table::calls(&calls, width), calls.len(), width));
    }
    lines
}

fn text(table: ratatui::widgets::Table<'static>, rows: usize, width: u16) -> Vec<String> {
    let area = Rect { x: 0, y: 0, width, height: u16::try_from(rows + 1).unwrap_or(u16::MAX) };
    let mut buffer = Buffer::empty(area);
    Widget::render(table, area, &mut buffer);
    let line = |y| {
        (0..width).filter_map(|x| buffer.cell((x, y))).map(ratatui::buffer::Cell::symbol).collect::<String>()
    };
    (0..area.height).map(|y| line(y).trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    use super::*;
    use crate::cli::SortKey;
    use crate::overview::tests::overview;

    fn state() -> State {
        let mut state = State::new(None, SortKey::Rate, Duration::from_secs(1));
        state.take(overview(10_000, 100));
        state.take(overview(12_000, 300));
        state
    }

    fn drawn(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen_shows_figures_functions_and_calls() {
        let mut state = state();
        let screen = drawn(&state, 140, 30);
        for part in [
            "baton top",
            "node 1.2.3",
            "100 requests/s",
            "10.0 failed/s",
            "3 in flight",
            "0.85 cores",
            "512 KiB",
            "shop/front",
            "shop/cart",
            "CALLS/S▼",
            "1.0 µs",
            "50.0 µs",
            "25 %",
            "→ cart",
            "9.7 KiB",
        ] {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        let _ = state.key(KeyEvent::from(KeyCode::Tab));
        assert!(!drawn(&state, 140, 30).contains("→ cart"));
    }

    #[test]
    fn any_size_is_drawn() {
        let mut state = state();
        for help in [false, true] {
            state.help = help;
            for (width, height) in [(1, 1), (3, 2), (10, 4), (20, 5), (40, 10), (80, 24), (300, 100)] {
                drawn(&state, width, height);
            }
        }
        let narrow = drawn(&State { help: false, ..state }, 44, 24);
        assert!(narrow.contains("CALLS/S") && !narrow.contains("RUNS AS"), "{narrow}");
    }

    #[test]
    fn a_node_that_is_gone_and_an_empty_one_are_told() {
        let mut state = state();
        state.trouble = Some("no node listens at /x\u{1b}[2J".to_owned());
        let screen = drawn(&state, 120, 20);
        assert!(screen.contains("no node listens") && !screen.contains('\u{1b}'), "{screen}");
        let mut none = overview(20_000, 0);
        none.apps.clear();
        state.take(none);
        assert!(drawn(&state, 120, 20).contains("nothing is deployed"));
    }

    #[test]
    fn help_and_search_are_drawn() {
        let mut state = state();
        let _ = state.key(KeyEvent::from(KeyCode::Char('?')));
        assert!(drawn(&state, 100, 24).contains("one app after the other"));
        let _ = state.key(KeyEvent::from(KeyCode::Esc));
        for c in "/fro".chars() {
            let _ = state.key(KeyEvent::from(KeyCode::Char(c)));
        }
        let screen = drawn(&state, 100, 24);
        assert!(
            screen.contains("/fro") && screen.contains("shop/front") && !screen.contains("shop/ad"),
            "{screen}"
        );
    }

    #[test]
    fn a_snapshot_has_no_colours_and_all_rows() {
        let lines = plain(&state(), 140);
        assert!(lines.iter().all(|line| !line.contains('\u{1b}') && !line.ends_with(' ')), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("shop/")).count(), 5, "{lines:?}");
    }
}

//! The dashboard in a real browser: the token, the graph under load, the keyboard, colours, actions, a node that goes
//! away, a thousand functions, and names that want to be markup.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::{Client, need_sandbox, wait_until};

use super::driver::{ENTER, TAB};
use super::{Visit, artifacts};

/// How long the page may take to show what the node says: it looks every two seconds.
const SHOWN: Duration = Duration::from_secs(20);
/// How long the shop gets requests, and how many at most.
const LOAD: (Duration, usize) = (Duration::from_secs(25), 2000);
/// The longest piece of work in the page with a thousand functions, milliseconds, on a machine that does other things too.
const LONGEST_MS: f64 = 1000.0;
/// A node that does not exist, for the page to look at.
const FIXTURE: &str = include_str!("fixture.js");
const RIGHT: &str = "\u{e014}";
const ESCAPE: &str = "\u{e00c}";

impl Visit {
    fn admin(&self, path: &str) -> String {
        format!("http://{}{path}", self.node.admin)
    }

    /// Opens the page and shows it the token.
    fn enter(&self) {
        self.browser.open(&self.admin("/"));
        self.browser.fill("#token", &self.node.token);
        self.browser.click("dialog button[type=submit]");
        self.shown(
            "the page is live",
            "return document.querySelector('#status').textContent.startsWith('live')",
        );
    }

    /// Waits until a script says so.
    #[track_caller]
    fn shown(&self, what: &str, script: &str) {
        wait_until(SHOWN, what, || self.browser.script(script) == true);
    }

    fn go(&self, view: &str) {
        self.browser.click(&format!("nav a[data-view={view}]"));
        self.shown(
            view,
            &format!("return document.querySelector('nav a[aria-current]').dataset.view === {view:?}"),
        );
    }

    /// Visits the shop from another thread, for a while.
    fn load(&self) -> thread::JoinHandle<usize> {
        let gateway = self.node.gateway;
        thread::spawn(move || {
            let until = Instant::now() + LOAD.0;
            let mut client = Client::connect(gateway).expect("the gateway listens");
            let paths = ["/", "/product/mug", "/product/lamp", "/cart"];
            let mut sent = 0;
            for path in paths.iter().cycle().take(LOAD.1) {
                if Instant::now() > until || client.request("GET", path, &[], b"").is_err() {
                    break;
                }
                sent += 1;
                thread::sleep(Duration::from_millis(8));
            }
            sent
        })
    }
}

#[test]
fn an_operator_watches_the_shop() {
    need_sandbox!();
    let Some(visit) = Visit::start() else { return };
    let browser = &visit.browser;

    browser.open(&visit.admin("/"));
    browser.fill("#token", "wrong");
    browser.click("dialog button[type=submit]");
    visit.shown(
        "a wrong token is refused",
        "return document.querySelector('dialog .error').textContent.includes('not this node')",
    );
    assert_eq!(browser.script("return sessionStorage.getItem('baton-token')"), serde_json::Value::Null);
    // The browser notes the refusal itself.
    assert!(browser.complaints().iter().all(|complaint| complaint.contains("401")));
    visit.picture("dashboard-token.png");
    browser.fill("#token", &visit.node.token);
    browser.click("dialog button[type=submit]");
    let load = visit.load();

    visit.shown("the graph is drawn", "return document.querySelectorAll('.graph .node').length === 11");
    visit.shown(
        "requests are counted",
        "return [...document.querySelectorAll('.node .rate')].some((rate) => parseFloat(rate.textContent) > 1)",
    );
    visit.shown("calls between functions flow", "return document.querySelectorAll('.edge.live').length >= 4");
    visit.shown(
        "bytes are handed over",
        "return document.querySelectorAll('.edge .flow:not(.hidden)').length >= 2",
    );
    let address = browser.script("return location.href + document.cookie");
    assert!(!address.to_string().contains(&visit.node.token), "the token is in {address}");
    visit.picture("dashboard-light.png");
    browser.prefer_dark(true);
    browser.click(".node[aria-label^='checkout']");
    visit.shown(
        "what is chosen is told",
        "return document.querySelector('.side h2').textContent === 'checkout'",
    );
    visit.picture("dashboard-dark.png");
    browser.prefer_dark(false);
    browser.set_width(390);
    visit.picture("dashboard-narrow.png");
    browser.set_width(1280);

    visit.go("invocations");
    browser.click(".head .button");
    browser.click("dialog .primary");
    visit.shown(
        "an invocation is drawn hop by hop",
        "return document.querySelectorAll('.fall .row').length >= 3",
    );
    visit.picture("dashboard-invocations.png");
    for (view, part) in [("memory", "Pools"), ("nodes", "This node"), ("logs", "Tail")] {
        visit.go(view);
        assert!(browser.text("main").contains(part), "{view}: {}", browser.text("main"));
        visit.picture(&format!("dashboard-{view}.png"));
    }
    visit.go("deployments");
    visit.shown(
        "the app is listed",
        "return document.querySelector('main td .link').textContent === 'boutique'",
    );
    let sent = load.join().expect("the visitor");
    assert!(sent > 50, "{sent} requests");
    visit.node.wait_at_rest(super::REST);
}

#[test]
fn an_operator_without_a_mouse_acts() {
    need_sandbox!();
    let Some(visit) = Visit::start() else { return };
    let browser = &visit.browser;

    visit.enter();
    visit.shown("the graph is drawn", "return document.querySelectorAll('.graph .node').length === 11");
    browser.script("document.activeElement.blur()");
    browser.press(TAB);
    assert_eq!(browser.script("return document.activeElement.className"), "skip");
    browser.press(ENTER);
    assert_eq!(browser.script("return document.activeElement.id"), "main");
    visit.tab_to(".node[tabindex='0']");
    let first = browser.script("return document.activeElement.getAttribute('aria-label')");
    browser.press(RIGHT);
    let second = browser.script("return document.activeElement.getAttribute('aria-label')");
    assert_ne!(first, second, "an arrow leads to another function");
    browser.press(ENTER);
    visit.shown(
        "Enter chooses it",
        "return document.querySelector('.node.selected') === document.activeElement",
    );
    browser.press(ESCAPE);
    visit.shown("Escape lets it go", "return !document.querySelector('.node.selected')");
    // Nothing holds the focus: it comes round to where it began.
    visit.tab_to("#main table .link");
    browser.press("/");
    visit.shown("a slash leads to the search", "return document.activeElement.type === 'search'");

    // Idle cells end at a word, asked twice: Escape means no.
    visit.tab_to_text("Evict idle cells");
    browser.press(ENTER);
    visit.shown("it asks", "return document.querySelector('dialog').open");
    browser.press(ESCAPE);
    visit.shown("no is no", "return !document.querySelector('dialog').open");
    let before = visit.node.replicas();
    visit.tab_to_text("Evict idle cells");
    browser.press(ENTER);
    visit.tab_to_text("Evict");
    browser.press(ENTER);
    visit.shown("it is done", "return !document.querySelector('dialog').open");
    if visit.node.function("frontend")["runs_as"] == "compartment" {
        wait_until(SHOWN, "cells are others", || visit.node.replicas() != before);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_node_that_is_gone_is_told_and_found_again() {
    need_sandbox!();
    let Some(Visit { browser, node }) = Visit::start() else { return };
    let admin = node.admin;
    let visit = Visit { browser, node };
    visit.enter();
    visit.go("nodes");
    let Visit { browser, node } = visit;
    let _home = node.kill();
    let gone = "return document.querySelector('#banner').textContent.includes('does not answer')";
    wait_until(SHOWN, "the page says that the node is gone", || browser.script(gone) == true);
    assert!(browser.text("#status").contains("not reachable"));
    assert!(browser.text("main").contains("This node"), "what it said last stays");
    browser.picture(&artifacts().join("dashboard-gone.png"));
    // The browser notes each try that failed, and nothing else.
    assert!(browser.complaints().iter().all(|complaint| complaint.contains(&admin.to_string())));
}

#[test]
fn a_thousand_functions_are_quick_and_names_stay_text() {
    need_sandbox!();
    let Some(visit) = Visit::start() else { return };
    let browser = &visit.browser;

    browser.before_each_page(FIXTURE);
    browser.open(&visit.admin("/"));
    visit.shown(
        "all functions are listed",
        "return document.querySelector('main').textContent.includes('Functions1000')",
    );
    visit.shown(
        "rates are known",
        "return window.asked.filter((path) => path.endsWith('/overview')).length >= 4",
    );
    let rows = browser.count("tbody tr");
    assert!(rows < 120, "{rows} rows for what fits on a screen");
    browser.script("document.querySelector('main .table').scrollTop = 20000");
    visit.shown("rows come as they are scrolled to", "return [...document.querySelectorAll('main tbody tr')].some((row) => row.getAttribute('aria-rowindex') > 500)");
    browser.fill("main input[type=search]", "app-07/function-3");
    visit.shown("a search finds", "return document.querySelectorAll('main tbody td .link').length === 11");
    visit.picture("dashboard-thousand.png");
    for view in ["invocations", "memory", "deployments", "nodes", "logs", "live"] {
        visit.go(view);
        visit.shown(view, "return document.querySelector('main').textContent.includes('<img src=x onerror')");
        let made = browser.script(
            "return document.querySelectorAll('main img, main script').length + (window.hacked ?? 0)",
        );
        assert_eq!(made, 0, "{view}: a name became markup");
        assert_eq!(browser.complaints(), Vec::<String>::new(), "{view}");
    }
    let longest = browser.script("return window.longest").as_f64().expect("a duration");
    println!("the longest piece of work with 1,000 functions took {longest} ms");
    let _ = fs::write(artifacts().join("dashboard-thousand.txt"), format!("longest task: {longest} ms\n"));
    assert!(longest < LONGEST_MS, "{longest} ms of work at once");
}

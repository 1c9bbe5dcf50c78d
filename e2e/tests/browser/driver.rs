//! A headless Chromium, driven over the WebDriver protocol: JSON over HTTP/1.1 to Debian's `chromedriver`.
//!
//! Only what the walk through the shop needs. Elements are named by CSS selectors and waited for; a command that fails
//! ends the test with what the driver says. The browser has a profile of its own and makes no connection but to the page.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use baton_e2e::process;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long one command may take; starting the browser is one.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long the driver may take until it listens.
const DRIVER_LIMIT: Duration = Duration::from_secs(20);
/// How long an element is waited for.
const ELEMENT_LIMIT_MS: u64 = 10_000;
/// How long a page is waited for.
const PAGE_LIMIT: Duration = Duration::from_secs(15);
/// The key under which the protocol hides an element's name.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// What the browser is started with, besides its profile.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1280,900",
];

/// Whether the page whose path is the argument has taken the place of the one that was left.
const ARRIVED: &str =
    "return !window.left && document.readyState === 'complete' && location.pathname === arguments[0]";

/// The Tab key, as the protocol writes it.
pub(crate) const TAB: &str = "\u{e004}";
/// The Enter key.
pub(crate) const ENTER: &str = "\u{e007}";

/// A browser with one page. Dropping it ends it and its driver.
#[derive(Debug)]
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    pid: Option<u32>,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; `None`, loudly, where a program is missing.
    pub(crate) fn start() -> Option<Self> {
        let (Some(chromium), Some(chromedriver)) = (on_path("chromium"), on_path("chromedriver")) else {
            eprintln!(
                "SKIP: the walk through the shop: Debian's chromium and chromium-driver are not installed"
            );
            return None;
        };
        let profile = tempfile::Builder::new().prefix("baton-browser-").tempdir().expect("a directory");
        let mut driver = Command::new(chromedriver);
        driver.args(["--port=0", "--log-level=SEVERE"]).env("TMPDIR", profile.path());
        // A group of its own: whatever the driver starts can be ended with it.
        driver.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut driver = driver.spawn().expect("chromedriver starts");
        let port = port(&mut driver);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
        let mut browser = Self { driver, address, session: String::new(), pid: None, _profile: profile };
        assert!(port.is_some(), "chromedriver did not name its port within {DRIVER_LIMIT:?}");
        browser.open_session(&chromium);
        Some(browser)
    }

    fn open_session(&mut self, chromium: &Path) {
        let profile = format!("--user-data-dir={}", self._profile.path().join("profile").display());
        let args: Vec<&str> = FLAGS.into_iter().chain([profile.as_str()]).collect();
        let wanted = json!({
            "goog:chromeOptions": { "binary": chromium, "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "implicit": ELEMENT_LIMIT_MS, "pageLoad": 30_000, "script": 10_000 },
        });
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let session = self.exchange("POST", "/session", &body);
        self.session = session["sessionId"].as_str().expect("a session").to_owned();
        let pid = &session["capabilities"]["goog:processID"];
        self.pid = pid.as_u64().and_then(|pid| u32::try_from(pid).ok());
    }

    // ---- pages ----------------------------------------------------------------------------------------------

    /// Goes to a page and waits until it is there.
    pub(crate) fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// Does something that leads to another page, and waits until that is there.
    #[track_caller]
    pub(crate) fn lead_to(&self, path: &str, action: impl FnOnce()) {
        // The mark goes with the page that is left: the next one may have the same path.
        self.script("window.left = true");
        action();
        let there = json!({ "script": ARRIVED, "args": [path] });
        let command = format!("/session/{}/execute/sync", self.session);
        baton_e2e::wait_until(PAGE_LIMIT, &format!("the page is {path}"), || {
            // Between two pages there is nothing that could answer.
            let answer = try_exchange(self.address, "POST", &command, &there);
            answer.is_ok_and(|(status, answer)| status == 200 && answer["value"] == true)
        });
    }

    /// Clicks what leads to another page.
    #[track_caller]
    pub(crate) fn follow(&self, css: &str, path: &str) {
        self.lead_to(path, || self.click(css));
    }

    /// What a function's body returns in the page.
    pub(crate) fn script(&self, body: &str) -> Value {
        self.post("execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Runs a script at the start of each page from now on, before the page's own.
    pub(crate) fn before_each_page(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
    }

    /// Whether the visitor prefers dark pages.
    pub(crate) fn prefer_dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// The screen's width from now on.
    pub(crate) fn set_width(&self, width: u32) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// A picture of the whole page, in a PNG file.
    pub(crate) fn picture(&self, file: &Path) {
        let size = self.script("let e = document.documentElement; return [e.clientWidth, e.scrollHeight]");
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let shot = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let shot = self.devtools("Page.captureScreenshot", &shot);
        let png = decode(shot["data"].as_str().expect("a picture"));
        assert!(png.starts_with(b"\x89PNG"), "not a PNG");
        fs::write(file, png).expect("the picture can be written");
    }

    /// What the console complained about since the last time: broken resources, violated policies, exceptions.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().expect("a list of messages");
        let bad = entries.iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        bad.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    // ---- elements -------------------------------------------------------------------------------------------

    /// How many elements there are; does not wait for more than one.
    pub(crate) fn count(&self, css: &str) -> usize {
        let found = self.post("elements", &json!({ "using": "css selector", "value": css }));
        found.as_array().expect("a list of elements").len()
    }

    /// The text of the first one, as it is shown.
    #[track_caller]
    pub(crate) fn text(&self, css: &str) -> String {
        let path = format!("element/{}/text", self.element(css));
        self.command("GET", &path, &Value::Null).as_str().expect("a text").to_owned()
    }

    /// Clicks the first one.
    #[track_caller]
    pub(crate) fn click(&self, css: &str) {
        self.post(&format!("element/{}/click", self.element(css)), &json!({}));
    }

    /// Puts a text into the first one, a field, in place of what is there.
    #[track_caller]
    pub(crate) fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/clear"), &json!({}));
        self.post(&format!("element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses a key and lets it go, wherever the focus is.
    pub(crate) fn press(&self, key: &str) {
        let strokes = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let source = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.post("actions", &json!({ "actions": [source] }));
    }

    #[track_caller]
    fn element(&self, css: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": css }));
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    // ---- the protocol ---------------------------------------------------------------------------------------

    fn devtools(&self, command: &str, params: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.command("POST", path, body)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.exchange(method, &format!("/session/{}/{path}", self.session), body)
    }

    /// One command; what the driver says against it ends the test.
    fn exchange(&self, method: &str, path: &str, body: &Value) -> Value {
        match try_exchange(self.address, method, path, body) {
            Ok((200, answer)) => answer["value"].clone(),
            Ok((status, answer)) => panic!("{method} {path} {body}: {status} {}", answer["value"]["message"]),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            let _ = try_exchange(self.address, "DELETE", &path, &Value::Null);
        }
        // What a driver that fails leaves behind: the browser by its number, the rest by its group.
        if let Some(pid) = self.pid.filter(|&pid| process::is_alive(pid)) {
            process::kill(pid);
        }
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}

/// Sends one command on a connection of its own.
fn try_exchange(to: SocketAddr, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
    let stream = TcpStream::connect_timeout(&to, COMMAND_LIMIT)?;
    stream.set_read_timeout(Some(COMMAND_LIMIT))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (&stream).write_all(format!("{head}{body}").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (mut status, mut length) = (0, 0);
    for number in 0.. {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        } else if number == 0 {
            status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Ok((status, serde_json::from_slice(&answer)?))
}

/// The port that the driver prints once it listens.
fn port(driver: &mut Child) -> Option<u16> {
    let stdout = BufReader::new(driver.stdout.take().expect("stdout is a pipe"));
    let (sender, receiver) = mpsc::sync_channel(1);
    // The pipe is read to its end, so that the driver never fails to print.
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let port =
                line.split_once(" started successfully on port ").map(|(_, rest)| rest.trim_end_matches('.'));
            if let Some(port) = port.and_then(|port| port.parse().ok()) {
                let _ = sender.try_send(port);
            }
        }
    });
    let started = Instant::now();
    receiver.recv_timeout(DRIVER_LIMIT.saturating_sub(started.elapsed())).ok()
}

/// A program in the directories of `PATH`.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Bytes from base64 without line breaks.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for character in text.bytes().take_while(|&character| character != b'=') {
        let six = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("not base64: {other}"),
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held).to_le_bytes()[0]);
        }
    }
    bytes
}

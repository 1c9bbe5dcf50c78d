//! The servers under test: their sources, what they need, and apps of them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use baton_e2e::{Node, cli, python_environment, source_root};
use tempfile::TempDir;

/// An app with one HTTP function that answers everything.
pub(crate) struct Server {
    directory: TempDir,
    name: String,
}

fn sources(name: &str) -> PathBuf {
    source_root().join("e2e/servers").join(name)
}

/// What `cargo xtask test` has installed for these tests: npm's packages, a server in Go.
fn installed(what: &str) -> Option<PathBuf> {
    let place = std::env::var_os("BATON_TEST_SERVERS").map(|place| PathBuf::from(place).join(what));
    let place = place.filter(|place| place.exists());
    if place.is_none() {
        println!("SKIP: {what} is not there; `cargo xtask test --only tools` installs it");
    }
    place
}

fn copy(from: &Path, to: &Path) {
    let _bytes = fs::copy(from, to).unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        // What npm links are programs, which nobody starts.
        if entry.file_name() == OsStr::new(".bin") {
            continue;
        }
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_tree(&entry.path(), &place),
            false => copy(&entry.path(), &place),
        }
    }
}

impl Server {
    /// A function with these lines; `fill` puts its files into a directory.
    pub(crate) fn of(name: &str, lines: &str, fill: impl FnOnce(&Path)) -> Server {
        let directory = tempfile::Builder::new().prefix("baton-app-").tempdir().unwrap();
        let manifest = format!(
            r#"
[app]
name = "{name}"
[pool]
size = "64MiB"
[functions.web]
runtime = "http"
files = "web"
memory = "512MiB"
timeout = "10s"
{lines}
[[routes]]
path = "/"
function = "web"
methods = ["GET", "POST", "PUT", "DELETE"]
[[routes]]
path = "/{{*rest}}"
function = "web"
methods = ["GET", "POST", "PUT", "DELETE"]
"#
        );
        fs::write(directory.path().join("baton.toml"), manifest).unwrap();
        let files = directory.path().join("web");
        fs::create_dir_all(&files).unwrap();
        fs::write(files.join("README"), "a server\n").unwrap();
        fill(&files);
        Server { directory, name: name.to_owned() }
    }

    /// The Flask app, on a port.
    pub(crate) fn flask(lines: &str) -> Option<Server> {
        let venv = python_environment()?;
        let command = "command = [\"python3\", \"app.py\"]\nport = 8000";
        let lines = format!("{command}\npython = \"{}\"\n{lines}", venv.display());
        Some(Self::of("flask", &lines, |files| copy(&sources("flask/app.py"), &files.join("app.py"))))
    }

    /// The Express app, on a Unix socket.
    pub(crate) fn express(lines: &str) -> Option<Server> {
        let packages = installed("express/node_modules")?;
        let command = "command = [\"node\", \"app.js\", \"/tmp/web.sock\"]\nsocket = \"/tmp/web.sock\"";
        Some(Self::of("express", &format!("{command}\n{lines}"), |files| {
            copy_tree(&packages, &files.join("node_modules"));
            fs::copy(sources("express/app.js"), files.join("app.js")).unwrap();
        }))
    }

    /// The Go server, with a path that says when it is ready.
    pub(crate) fn go(lines: &str) -> Option<Server> {
        let program = installed("go-server")?;
        let command = "command = [\"./go-server\"]\nport = 8001\nready = \"/up\"";
        Some(Self::of("golang", &format!("{command}\n{lines}"), |files| {
            fs::copy(&program, files.join("go-server")).unwrap();
        }))
    }

    /// The server that says what it is asked to, right or wrong.
    pub(crate) fn raw(lines: &str) -> Server {
        let command = "command = [\"python3\", \"raw.py\"]\nport = 8002";
        Self::of("raw", &format!("{command}\n{lines}"), |files| {
            fs::copy(sources("raw/raw.py"), files.join("raw.py")).unwrap();
        })
    }

    /// The server that tries ports of its own network.
    pub(crate) fn ports(lines: &str) -> Server {
        let command = "command = [\"python3\", \"app.py\"]\nport = 8004";
        Self::of("ports", &format!("{command}\n{lines}"), |files| {
            fs::copy(sources("ports/app.py"), files.join("app.py")).unwrap();
        })
    }

    /// The same, without a line of its manifest.
    pub(crate) fn without(self, line: &str) -> Server {
        let manifest = self.directory.path().join("baton.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replacen(line, "", 1)).unwrap();
        self
    }

    /// A node with it.
    pub(crate) fn start(&self) -> Node {
        Node::up(self.directory.path(), &self.name)
    }

    /// What `baton up` says that does not come up.
    pub(crate) fn refused(&self) -> String {
        let home = tempfile::tempdir().unwrap();
        let args = ["up", self.directory.path().to_str().unwrap(), "--port", "0"];
        let up = cli(home.path(), args);
        assert_eq!(up.code, 1, "{}{}", up.stdout, up.stderr);
        up.stderr
    }
}

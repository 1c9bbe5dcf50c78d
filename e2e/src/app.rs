//! An app's directory: a manifest and the guest program, or module.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::machine;

/// An app that a test made up. Its directory goes with it.
#[derive(Debug)]
pub struct App {
    directory: TempDir,
    name: String,
    pool: String,
    trust: String,
    wake: Option<String>,
    functions: String,
    routes: String,
}

impl App {
    /// An app without functions, with a pool of 64 MiB.
    pub fn new(name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("baton-app-").tempdir().expect("a directory");
        let guest = machine::guest();
        fs::copy(&guest.path, directory.path().join(guest.name)).expect("the guest program is there");
        let (functions, routes) = Default::default();
        let (name, pool, trust) = (name.to_owned(), "64MiB".to_owned(), "app".to_owned());
        Self { directory, name, pool, trust, wake: None, functions, routes }
    }

    /// How finely memory keys follow payloads: by `app`, unless a test says otherwise.
    #[must_use]
    pub fn trust(mut self, trust: &str) -> Self {
        trust.clone_into(&mut self.trust);
        self
    }

    /// Who hands payloads over between processes: as `BATON_E2E_WAKE` says, unless a test says otherwise.
    #[must_use]
    pub fn wake(mut self, wake: &str) -> Self {
        self.wake = Some(wake.to_owned());
        self
    }

    /// The pool's size.
    #[must_use]
    pub fn pool(mut self, size: &str) -> Self {
        size.clone_into(&mut self.pool);
        self
    }

    /// A function `name` with a behaviour of the guest program, and more lines for its table. It answers
    /// `/{name}` and what is one step below it, unless it has no pool to read requests from.
    #[must_use]
    pub fn function(mut self, name: &str, behaviour: &str, more: &str) -> Self {
        let (isolation, guest) = (machine::isolation(), machine::guest().name);
        let reuse = if needs_reuse(behaviour, more) { "reuse = true" } else { "" };
        let node = self.node(more);
        let _ = write!(
            self.functions,
            "\n[functions.{name}]\nartifact = \"{guest}\"\nisolation = \"{isolation}\"\nargs = [\"{behaviour}\"]\n{reuse}\n{node}\n{more}\n"
        );
        if more.contains("pool = \"none\"") {
            return self;
        }
        self.route(&format!("/{name}"), name, "").route(&format!("/{name}/{{name}}"), name, "")
    }

    /// The line that lays the next function on a node, where there are several and the test does not say on which.
    fn node(&self, more: &str) -> String {
        let count = machine::nodes();
        if count == 1 || more.contains("nodes =") {
            return String::new();
        }
        let number = self.functions.matches("[functions.").count();
        format!("nodes = [\"{}\"]", machine::NODES[number % count])
    }

    /// A Wasm function `name` of the module in a file of the app's directory, and more lines for its table.
    #[must_use]
    pub fn module(self, name: &str, file: &str, more: &str) -> Self {
        self.artifact(name, file, "wasm", more).route(&format!("/{name}"), name, "")
    }

    /// A function `name` of a file in the app's directory, isolated so, and more lines for its table. Routes are up to the test.
    #[must_use]
    pub fn artifact(mut self, name: &str, file: &str, isolation: &str, more: &str) -> Self {
        let _ = write!(
            self.functions,
            "\n[functions.{name}]\nartifact = \"{file}\"\nisolation = \"{isolation}\"\n{more}\n"
        );
        self
    }

    /// A function `name` with a table that the test writes. Routes are up to the test, too.
    #[must_use]
    pub fn written(mut self, name: &str, table: &str) -> Self {
        let _ = write!(self.functions, "\n[functions.{name}]\n{table}\n");
        self
    }

    /// One more route, with more lines for its table.
    #[must_use]
    pub fn route(mut self, path: &str, function: &str, more: &str) -> Self {
        let _ = write!(
            self.routes,
            "\n[[routes]]\npath = \"{path}\"\nfunction = \"{function}\"\n{}\n",
            if more.is_empty() { "methods = [\"GET\", \"POST\", \"PUT\"]" } else { more }
        );
        self
    }

    /// The directory, its manifest written as it is now.
    pub fn directory(&self) -> &Path {
        let Self { name, pool, trust, functions, routes, .. } = self;
        let wake = self.wake.clone().or_else(|| machine::wake().filter(|_| self.runs_in_processes()));
        let wake = wake.map_or_else(String::new, |wake| format!("wake = \"{wake}\"\n"));
        // Payloads stay in the pool whatever the isolation, so that the same can be said of them.
        self.manifest(&format!(
            "[app]\nname = \"{name}\"\ntrust = \"{trust}\"\n{wake}\n[pool]\nsize = \"{pool}\"\n{functions}{routes}"
        ))
    }

    /// Whether no function is in a cell.
    fn runs_in_processes(&self) -> bool {
        let in_cell = |word: &str| self.functions.contains(&format!("isolation = \"{word}\""));
        !in_cell("compartment") && !in_cell("wasm")
    }

    /// The directory, with another manifest.
    pub fn manifest(&self, text: &str) -> &Path {
        fs::write(self.directory.path().join("baton.toml"), text).expect("the manifest can be written");
        self.directory.path()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Whether a module has to keep its memory between requests to be what the native function is: it remembers something, or
/// serves several at once.
fn needs_reuse(behaviour: &str, more: &str) -> bool {
    let remembers = ["sharer", "worker", "tally"].contains(&behaviour);
    machine::in_modules() && (remembers || more.contains("concurrency ="))
}

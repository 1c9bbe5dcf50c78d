//! An app as it is measured: built once, then deployed in as many variants as a comparison needs.
//!
//! A variant is the app's own manifest with another isolation, trust or scale, written into a directory of its own. Its
//! functions are the executables that the one build left behind: every variant runs the same bytes.

#[cfg(test)]
mod tests;
mod wake;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::locate;
pub use wake::Wake;

const MANIFEST: &str = "baton.toml";

/// How Baton holds functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Isolation {
    /// A process each.
    Process,
    /// Compartments of a cell.
    Compartment,
    /// Wasm modules in compartments of a cell.
    Wasm,
}

impl Isolation {
    /// The manifest's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Compartment => "compartment",
            Self::Wasm => "wasm",
        }
    }

    /// The name of its rows.
    #[must_use]
    pub const fn system(self) -> &'static str {
        match self {
            Self::Process => "baton-process",
            Self::Compartment => "baton-compartment",
            Self::Wasm => "baton-wasm",
        }
    }

    /// What ratios call it.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Process => "baton",
            Self::Compartment => "compartment",
            Self::Wasm => "wasm",
        }
    }
}

/// Why an app has no variants.
#[derive(Debug)]
pub enum AppError {
    /// A manifest cannot be read, or its variant not be written.
    File {
        /// Which.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A manifest is not TOML, or not of the form that Baton's have.
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no module of a function.
    NoModule {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The build left no executable for a function.
    NotBuilt {
        /// The app's directory.
        path: PathBuf,
        /// The function.
        function: String,
    },
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Malformed { path, problem } => {
                write!(f, "{} is no manifest of an app: {problem}", path.display())
            }
            Self::NoModule { path } => {
                write!(f, "there is no module {}: `cargo xtask guests` builds it", path.display())
            }
            Self::NotBuilt { path, function } => {
                write!(f, "`baton build {}` left no executable for {function}", path.display())
            }
        }
    }
}

impl std::error::Error for AppError {}

/// An app's manifest, its functions built.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    manifest: Table,
}

impl App {
    /// Reads an app's manifest and puts `artifacts` in the places of its builds.
    pub fn read(directory: &Path, artifacts: &BTreeMap<String, PathBuf>) -> Result<Self, AppError> {
        let path = directory.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|error| AppError::File { path: path.clone(), error })?;
        let malformed = |problem: String| AppError::Malformed { path: path.clone(), problem };
        let mut manifest: Table =
            text.parse().map_err(|error: toml::de::Error| malformed(error.to_string()))?;
        if let Some(functions) = manifest.get_mut("functions") {
            let functions = functions.as_table_mut().ok_or_else(|| malformed("no functions".to_owned()))?;
            for (name, function) in functions {
                let function =
                    function.as_table_mut().ok_or_else(|| malformed(format!("{name} is no table")))?;
                let artifact = artifacts.get(name);
                let artifact = artifact.ok_or_else(|| AppError::NotBuilt {
                    path: directory.to_owned(),
                    function: name.clone(),
                })?;
                function.remove("build");
                function.insert("artifact".to_owned(), Value::String(artifact.display().to_string()));
            }
        }
        Ok(Self { manifest })
    }

    /// The app of one component, which answers `/`.
    #[must_use]
    pub fn of_component(path: &Path, reuse: bool) -> Self {
        let mut function = Table::new();
        function.insert("artifact".to_owned(), Value::String(path.display().to_string()));
        function.insert("isolation".to_owned(), Value::String(Isolation::Wasm.word().to_owned()));
        function.insert("reuse".to_owned(), Value::Boolean(reuse));
        if reuse {
            // One is worked on, the next wait beside it.
            let scale = Table::from_iter([("concurrency".to_owned(), Value::Integer(8))]);
            function.insert("scale".to_owned(), Value::Table(scale));
        }
        let route = Table::from_iter([("path", "/"), ("function", "hello")].map(pair));
        let manifest = Table::from_iter([
            ("app".to_owned(), Value::Table(Table::from_iter([pair(("name", "hello"))]))),
            (
                "functions".to_owned(),
                Value::Table(Table::from_iter([("hello".to_owned(), Value::Table(function))])),
            ),
            ("routes".to_owned(), Value::Array(vec![Value::Table(route)])),
        ]);
        Self { manifest }
    }

    /// The app's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.manifest.get("app").and_then(|app| app.get("name")).and_then(Value::as_str).unwrap_or_default()
    }

    /// The executable of a function.
    #[must_use]
    pub fn artifact(&self, function: &str) -> Option<PathBuf> {
        let function = self.manifest.get("functions")?.get(function)?;
        Some(function.get("artifact")?.as_str()?.into())
    }

    /// The same with this isolation for every function, and no other where the machine lacks what it needs.
    ///
    /// # Errors
    /// A function has no module.
    pub fn isolated(mut self, isolation: Isolation) -> Result<Self, AppError> {
        for function in self.functions_mut() {
            function.remove("fallback");
            function.insert("isolation".to_owned(), Value::String(isolation.word().to_owned()));
        }
        if isolation == Isolation::Wasm { self.of_modules(&locate::modules()) } else { Ok(self) }
    }

    /// The same with the modules of a directory in place of the executables, each under the name of what it replaces. They keep
    /// their memory as compartments do, but for those that compartments put back.
    fn of_modules(mut self, directory: &Path) -> Result<Self, AppError> {
        for function in self.functions_mut() {
            let executable = function.get("artifact").and_then(Value::as_str).map(PathBuf::from);
            let name = executable.unwrap_or_default().with_extension("wasm");
            let path = directory.join(name.file_name().unwrap_or_default());
            if !path.is_file() {
                return Err(AppError::NoModule { path });
            }
            function.insert("artifact".to_owned(), Value::String(path.display().to_string()));
            if function.remove("reset").and_then(|reset| reset.as_bool()) != Some(true) {
                function.insert("reuse".to_owned(), Value::Boolean(true));
            }
        }
        Ok(self)
    }

    /// The same with functions that begin anew with each request, where they are modules.
    #[must_use]
    pub fn beginning_anew(mut self) -> Self {
        for function in self.functions_mut() {
            function.remove("reuse");
            if let Some(scale) = table_in(function, "scale") {
                scale.insert("concurrency".to_owned(), Value::Integer(1));
            }
        }
        self
    }

    /// The same with this trust: `app` or `buffer`.
    #[must_use]
    pub fn trusting(mut self, trust: &str) -> Self {
        if let Some(app) = self.manifest.get_mut("app").and_then(Value::as_table_mut) {
            app.insert("trust".to_owned(), Value::String(trust.to_owned()));
        }
        self
    }

    /// The same with policies, as a manifest has them.
    ///
    /// # Errors
    /// They are no TOML.
    pub fn with_policies(mut self, text: &str) -> Result<Self, AppError> {
        let malformed = |error: toml::de::Error| AppError::Malformed {
            path: MANIFEST.into(),
            problem: error.to_string(),
        };
        let policies: Table = text.parse().map_err(malformed)?;
        self.manifest.extend(policies);
        Ok(self)
    }

    /// The same with so many replicas of each function always there.
    #[must_use]
    pub fn with_replicas(mut self, count: u32) -> Self {
        for function in self.functions_mut() {
            if let Some(scale) = table_in(function, "scale") {
                scale.insert("min".to_owned(), Value::Integer(count.into()));
                scale.insert("max".to_owned(), Value::Integer(count.max(1).into()));
            }
        }
        self
    }

    /// The same with so many replicas of each function at least and at most, and a time after which those go that are not needed.
    #[must_use]
    pub fn scaled(mut self, min: u32, max: u32, idle: &str) -> Self {
        for function in self.functions_mut() {
            if let Some(scale) = table_in(function, "scale") {
                scale.insert("min".to_owned(), Value::Integer(min.into()));
                scale.insert("max".to_owned(), Value::Integer(max.into()));
                scale.insert("idle".to_owned(), Value::String(idle.to_owned()));
                scale.insert("queue".to_owned(), Value::Integer(4096));
            }
        }
        self
    }

    /// So many copies of its first function as an app of that name; the n-th answers `/NAME/n`.
    #[must_use]
    pub fn multiplied(mut self, name: &str, count: usize) -> Self {
        let first = self.functions_mut().next().cloned().unwrap_or_default();
        let numbered = |number: usize| (format!("f{number}"), Value::Table(first.clone()));
        let functions: Table = (0..count).map(numbered).collect();
        let route = |number: usize| {
            let path = format!("/{name}/{number}");
            Value::Table(Table::from_iter(
                [("path", path.as_str()), ("function", &format!("f{number}"))].map(pair),
            ))
        };
        let routes: Vec<Value> = (0..count).map(route).collect();
        self.manifest.insert("functions".to_owned(), Value::Table(functions));
        self.manifest.insert("routes".to_owned(), Value::Array(routes));
        if let Some(app) = table_in(&mut self.manifest, "app") {
            app.insert("name".to_owned(), Value::String(name.to_owned()));
        }
        self
    }

    /// The same with the node of a cluster that each function is to run on.
    #[must_use]
    pub fn placed(mut self, node: impl Fn(&str) -> &'static str) -> Self {
        let functions = self.manifest.get_mut("functions").and_then(Value::as_table_mut);
        for (name, function) in functions.into_iter().flatten() {
            if let Some(function) = function.as_table_mut() {
                let nodes = vec![Value::String(node(name).to_owned())];
                function.insert("nodes".to_owned(), Value::Array(nodes));
            }
        }
        self
    }

    /// The same with a word in every function's environment: another deployment of the same code.
    #[must_use]
    pub fn marked(mut self, mark: &str) -> Self {
        for function in self.functions_mut() {
            if let Some(env) = table_in(function, "env") {
                env.insert("BENCH_MARK".to_owned(), Value::String(mark.to_owned()));
            }
        }
        self
    }

    /// The same with some of another app's functions, and the routes that lead to them.
    #[must_use]
    pub fn with_functions(mut self, other: &Self, names: &[&str]) -> Self {
        let theirs = other.manifest.get("functions").and_then(Value::as_table);
        let added = theirs.into_iter().flatten().filter(|(name, _)| names.contains(&name.as_str()));
        let added: Vec<_> = added.map(|(name, function)| (name.clone(), function.clone())).collect();
        if let Some(functions) = table_in(&mut self.manifest, "functions") {
            functions.extend(added);
        }
        let routes = other.manifest.get("routes").and_then(Value::as_array);
        let leads_here = |route: &&Value| {
            route.get("function").and_then(Value::as_str).is_some_and(|function| names.contains(&function))
        };
        let added: Vec<_> = routes.into_iter().flatten().filter(leads_here).cloned().collect();
        let routes = self.manifest.entry("routes").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(routes) = routes.as_array_mut() {
            routes.extend(added);
        }
        self
    }

    /// The same with one more function that `caller` may call.
    #[must_use]
    pub fn with_call(mut self, caller: &str, callee: &str) -> Self {
        let function = self.manifest.get_mut("functions").and_then(|functions| functions.get_mut(caller));
        if let Some(function) = function.and_then(Value::as_table_mut) {
            let calls = function.entry("calls").or_insert_with(|| Value::Array(Vec::new()));
            if let Some(calls) = calls.as_array_mut() {
                calls.push(Value::String(callee.to_owned()));
            }
        }
        self
    }

    /// Writes the manifest into a directory, which it makes.
    pub fn write(&self, directory: &Path) -> Result<(), AppError> {
        let path = directory.join(MANIFEST);
        let text = toml::to_string(&self.manifest)
            .map_err(|error| AppError::Malformed { path: path.clone(), problem: error.to_string() })?;
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| AppError::File { path, error })
    }

    fn functions_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        let functions = self.manifest.get_mut("functions").and_then(Value::as_table_mut);
        functions.into_iter().flatten().filter_map(|(_, function)| function.as_table_mut())
    }
}

fn pair((name, value): (&str, &str)) -> (String, Value) {
    (name.to_owned(), Value::String(value.to_owned()))
}

/// The table `name` of `outer`, made if there is none; `None` if something else has that name.
fn table_in<'a>(outer: &'a mut Table, name: &str) -> Option<&'a mut Table> {
    outer.entry(name).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
}

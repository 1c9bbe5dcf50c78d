//! An app as it is measured: built once, then deployed in as many variants as a comparison needs.
//!
//! A variant is the app's own manifest with another isolation, trust or scale, written into a directory of its own. Its
//! functions are the executables that the one build left behind: every variant runs the same bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::locate;

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

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r#"
        [app]
        name = "shop"
        [functions.cart]
        build = { cargo = "functions/cart" }
        isolation = "compartment"
        fallback = "process"
        scale = { min = 1, max = 1, concurrency = 64 }
        [functions.front]
        build = { cargo = "functions/front" }
        calls = ["cart"]
        [[routes]]
        path = "/"
        function = "front"
    "#;

    fn app(text: &str) -> App {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(MANIFEST), text).unwrap();
        let artifacts =
            ["cart", "front"].map(|name| (name.to_owned(), PathBuf::from(format!("/built/{name}"))));
        App::read(directory.path(), &artifacts.into()).unwrap()
    }

    /// What the node would read of a variant.
    fn written(app: &App) -> baton_catalog::Manifest {
        let directory = tempfile::tempdir().unwrap();
        app.write(directory.path()).unwrap();
        let file = directory.path().join(MANIFEST);
        let text = fs::read_to_string(&file).unwrap();
        baton_catalog::Manifest::parse(&text, &file).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn a_component_is_an_app() {
        let manifest = written(&App::of_component(Path::new("/built/hello.wasm"), true));
        let (name, function) = manifest.functions.iter().next().unwrap();
        assert!(name.as_str() == "hello" && function.reuse && manifest.routes.len() == 1);
    }

    #[test]
    fn a_variant_runs_what_was_built_in_another_way() {
        let shop = app(SHOP);
        assert_eq!((shop.name(), shop.artifact("cart")), ("shop", Some("/built/cart".into())));
        let manifest = written(&shop.clone().isolated(Isolation::Compartment).unwrap().trusting("app"));
        assert_eq!(manifest.app.trust, baton_catalog::Trust::App);
        for (name, function) in &manifest.functions {
            assert_eq!(function.isolation, baton_catalog::Isolation::Compartment);
            assert_eq!(function.fallback, baton_catalog::Fallback::Refuse);
            let path = PathBuf::from(format!("/built/{name}"));
            assert_eq!(function.build, baton_catalog::Build::Artifact { path });
        }
        let manifest = written(&shop.with_replicas(0).marked("7"));
        let cart = manifest.function("cart").unwrap();
        assert_eq!((cart.scale.min, cart.scale.max, cart.scale.concurrency), (0, 1, 64));
        assert_eq!(cart.env["BENCH_MARK"], "7");
        let placed = written(&app(SHOP).placed(|name| if name == "cart" { "b" } else { "a" }));
        let nodes =
            |name| placed.function(name).unwrap().nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!((nodes("cart"), nodes("front")), (vec!["b".to_owned()], vec!["a".to_owned()]));
    }

    #[test]
    fn a_function_can_be_many_functions() {
        let many = written(&app(SHOP).scaled(0, 4, "2s").multiplied("rest-3", 12));
        assert_eq!((many.app.name.as_str(), many.functions.len(), many.routes.len()), ("rest-3", 12, 12));
        let scale = many.function("f11").unwrap().scale;
        assert_eq!((scale.min, scale.max, scale.idle.duration().as_secs()), (0, 4, 2));
    }

    #[test]
    fn modules_take_the_places_of_executables() {
        let directory = tempfile::tempdir().unwrap();
        let error = app(SHOP).of_modules(directory.path()).unwrap_err();
        assert!(
            error.to_string().contains("cart.wasm") && error.to_string().contains("xtask guests"),
            "{error}"
        );
        for name in ["cart", "front"] {
            fs::write(directory.path().join(name).with_extension("wasm"), "").unwrap();
        }
        let modules = |shop: &str| {
            let text = shop.replace("isolation = \"compartment\"", "isolation = \"wasm\"");
            let front = "build = { cargo = \"functions/front\" }";
            let text = text.replace(front, &format!("{front}\nisolation = \"wasm\""));
            app(&text.replace("fallback = \"process\"", "")).of_modules(directory.path()).unwrap()
        };
        let cart = |app: &App| written(app).function("cart").unwrap().clone();
        let kept = cart(&modules(SHOP));
        assert_eq!((kept.reuse, kept.scale.concurrency), (true, 64));
        let path = directory.path().join("cart.wasm");
        assert_eq!(kept.build, baton_catalog::Build::Artifact { path });
        let anew = cart(&modules(SHOP).beginning_anew());
        assert_eq!((anew.reuse, anew.scale.concurrency), (false, 1));
        // What compartments put back begins anew.
        let reset = SHOP.replace("concurrency = 64 }", "concurrency = 1 }\nreset = true");
        assert!(cart(&modules(&reset)).begins_anew());
    }

    #[test]
    fn functions_move_in_with_their_routes() {
        let text = SHOP.replace("shop", "other").replace("front", "first").replace("\"/\"", "\"/first\"");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(MANIFEST), text).unwrap();
        let artifacts = ["cart", "first"].map(|name| (name.to_owned(), PathBuf::from("/x")));
        let other = App::read(directory.path(), &artifacts.into()).unwrap();
        let both = app(SHOP).with_functions(&other, &["first"]).with_call("first", "front");
        let manifest = written(&both);
        assert_eq!((manifest.functions.len(), manifest.routes.len()), (3, 2));
        let calls: Vec<&str> =
            manifest.function("first").unwrap().calls.iter().map(|name| name.as_str()).collect();
        assert_eq!(calls, ["cart", "front"]);
    }

    #[test]
    fn what_is_not_built_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(MANIFEST), SHOP).unwrap();
        let error = App::read(directory.path(), &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("cart"), "{error}");
        fs::write(directory.path().join(MANIFEST), "functions = 3").unwrap();
        assert!(matches!(App::read(directory.path(), &BTreeMap::new()), Err(AppError::Malformed { .. })));
    }
}

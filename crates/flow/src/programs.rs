//! What is executed for a replica that is a process: its own executable, or a program of the node or of the machine that runs
//! its code.

use std::env;
use std::path::{Path, PathBuf};

use baton_abi::boot::FILES_AT;
use baton_catalog::{Build, Function, Python, Runtime};
use baton_replica::interpreter::{self, Interpreter, which};
use baton_replica::{NetworkAccess, Role, Root};

use crate::app::{App, FunctionState};
use crate::shim;
use crate::tunnels::Plan;

/// The variable that names the directory of the Python package, where it is not beside the running program.
pub(crate) const PYTHON_ENV: &str = "BATON_PYTHON";
/// That directory's name.
const PYTHON_DIRECTORY: &str = "python";
/// Where functions see it.
const PYTHON_AT: &str = "/opt/baton/python";
/// The variable by which a Python function is told its handler.
const HANDLER_ENV: &str = "BATON_HANDLER";
/// What is imported where the manifest names neither a handler nor a file.
const MODULE_DEFAULT: &str = "handler";
/// Where the code is, as [`FILES_AT`] says.
const FILES: &str = "/app";
/// Where the machine's programs are.
const PROGRAMS: &str = "/usr/local/bin:/usr/bin:/bin";
/// Processes and threads of one replica that starts programs.
pub(crate) const PROCESSES_MAX: u32 = 256;
/// The part of its memory that its files below `/tmp` may have.
const TMP_SHARE: u64 = 2;

/// A program, and what it is started with beside what every replica is.
#[derive(Debug)]
pub(crate) struct Program {
    /// The executable, as the node finds it.
    pub(crate) path: PathBuf,
    /// The arguments; those of the manifest if absent.
    pub(crate) args: Option<Vec<String>>,
    /// Entries of the environment that the manifest may override.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) root: Option<Root>,
    pub(crate) role: Role,
    pub(crate) network: NetworkAccess,
}

impl Program {
    /// An executable that is its own program.
    fn native(path: PathBuf) -> Program {
        let (args, env, root) = Default::default();
        Program { path, args, env, root, role: Role::Replica, network: NetworkAccess::None }
    }

    /// How many processes of the function's `memory` it may become by forks.
    pub(crate) fn copies(&self) -> u32 {
        match self.role {
            Role::Program { copies } => copies,
            Role::Replica | Role::Template => 1,
        }
    }

    /// The same for one that forks: so many processes, itself included.
    pub(crate) fn copied(self, copies: u32) -> Program {
        Program { role: Role::Program { copies }, ..self }
    }

    fn of_language(path: PathBuf) -> Program {
        let network = NetworkAccess::Loopback;
        Program { role: Role::Program { copies: 1 }, network, ..Program::native(path) }
    }
}

/// What is executed for a replica of a function.
pub(crate) fn of(app: &App, state: &FunctionState) -> Result<Program, String> {
    match &state.spec.runtime {
        Runtime::Native => Ok(Program::native(state.artifact.clone())),
        Runtime::Python(python) => of_python(app, state, python, "baton.run"),
        Runtime::Http(_) | Runtime::Lambda(_) => in_front(app, state),
    }
}

/// Whether the sandbox is off.
fn is_open(app: &App) -> bool {
    app.node.options.insecure_no_sandbox
}

/// Python, with a module of the package as its main program.
pub(crate) fn of_python(
    app: &App,
    state: &FunctionState,
    python: &Python,
    main: &str,
) -> Result<Program, String> {
    let interpreter = interpreter::python(python.python.as_deref()).map_err(|error| error.to_string())?;
    let package = package()?;
    let mut program = Program::of_language(interpreter.path.clone());
    // By its path: so it finds the environment that it is in.
    program.args = Some(vec![interpreter.path.display().to_string(), "-m".to_owned(), main.to_owned()]);
    program.env = common(&interpreter);
    let (packages, code) = if is_open(app) {
        let code = state.files.as_ref().and_then(|files| files.tree.clone()).unwrap_or_default();
        (package.display().to_string(), code.display().to_string())
    } else {
        let mut root = root(app, state, Some(&interpreter))?;
        let told = |error: baton_replica::RootError| error.to_string();
        root.show_if_there(&package, Path::new(PYTHON_AT)).map_err(told)?;
        // Not in `/app`: the first place where modules are looked for is where it starts.
        program.root = Some(root.running(&interpreter.path).map_err(told)?);
        (PYTHON_AT.to_owned(), FILES_AT.to_string_lossy().into_owned())
    };
    program.env.extend([
        ("PYTHONPATH", format!("{packages}:{code}")),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        // A replica has one core, and a library's threads would be lost in a fork.
        ("OPENBLAS_NUM_THREADS", "1".to_owned()),
        ("OMP_NUM_THREADS", "1".to_owned()),
        ("MKL_NUM_THREADS", "1".to_owned()),
        (HANDLER_ENV, handler(&state.spec, python)),
    ]);
    Ok(program)
}

/// What a Python function is told to import.
fn handler(spec: &Function, python: &Python) -> String {
    if let Some(handler) = &python.handler {
        return handler.clone();
    }
    let file = match &spec.build {
        Build::Artifact { path } | Build::Command { output: path, .. } => Some(path),
        _ => None,
    };
    let stem = file.filter(|path| path.extension().is_some_and(|extension| extension == "py"));
    stem.and_then(|path| path.file_stem())
        .map_or(MODULE_DEFAULT.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// The directory in which the package `baton` is.
fn package() -> Result<PathBuf, String> {
    let named = env::var_os(PYTHON_ENV).map(PathBuf::from);
    let beside = || Some(env::current_exe().ok()?.with_file_name(PYTHON_DIRECTORY));
    let path = named.or_else(beside).unwrap_or_else(|| PathBuf::from(PYTHON_DIRECTORY));
    match path.canonicalize() {
        Ok(path) if path.join("baton/__init__.py").is_file() => Ok(path),
        _ => Err(format!(
            "the Python package is not in {}; install it beside the node, or name its directory in {PYTHON_ENV}",
            path.display()
        )),
    }
}

/// The node's program in front of one that knows nothing of Baton.
fn in_front(app: &App, state: &FunctionState) -> Result<Program, String> {
    let named = state.spec.runtime.python();
    let interpreter = match (named, interpreter::python(named)) {
        (_, Ok(interpreter)) => Some(interpreter),
        // It may be written in anything.
        (None, Err(_)) => None,
        (Some(_), Err(error)) => return Err(error.to_string()),
    };
    let mut program = Program::of_language(shim::program()?);
    program.env = interpreter.as_ref().map_or_else(|| ordinary(PROGRAMS.to_owned()), common);
    if !is_open(app) {
        let mut root = root(app, state, interpreter.as_ref())?;
        let told = |error: baton_replica::RootError| error.to_string();
        // Node.js may lie elsewhere, too.
        if let Some(node) = which("node".as_ref()).filter(|node| !root.covers(node)) {
            let node = Interpreter::of_program(&node);
            node.show_in(&mut root).map_err(told)?;
            if let (Some(programs), Some((_, path))) = (node.programs(), program.env.first_mut()) {
                *path = format!("{path}:{}", programs.display());
            }
        }
        // Its code is there, or nothing.
        program.root = Some(root.starting_in(Path::new(FILES)).map_err(told)?);
    }
    Ok(program)
}

fn root(app: &App, state: &FunctionState, interpreter: Option<&Interpreter>) -> Result<Root, String> {
    let told = |error: baton_replica::RootError| format!("{}: {error}", app.name);
    let mut root = Root::of_machine(state.spec.memory.bytes() / TMP_SHARE).map_err(told)?;
    root.add_hosts(&Plan::for_programs(&state.spec).hosts);
    if let Some(interpreter) = interpreter {
        interpreter.show_in(&mut root).map_err(told)?;
    }
    Ok(root)
}

/// What programs of an interpreter's environment expect.
fn common(interpreter: &Interpreter) -> Vec<(&'static str, String)> {
    let own = interpreter.programs().map(|programs| format!("{}:", programs.display())).unwrap_or_default();
    ordinary(format!("{own}{PROGRAMS}"))
}

/// What every program expects.
fn ordinary(path: String) -> Vec<(&'static str, String)> {
    let tmp = || "/tmp".to_owned();
    vec![("PATH", path), ("HOME", tmp()), ("TMPDIR", tmp()), ("LANG", "C.UTF-8".to_owned())]
}

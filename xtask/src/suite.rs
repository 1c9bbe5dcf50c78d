//! `cargo xtask test`: every test that fits in CI, in the order of what fails soonest.
//!
//! ```text
//!   format … clippy … build-tests … binaries, simulate ──▶ beside ──▶ end-to-end tests … tests
//!      └─▶ tools, guests, modules, loom, memory: another process ─┘
//! ```
//! Tests and binaries are built in one profile, so that what they consist of is built once. The steps beside have target directories
//! of their own: builds in one wait for each other. nextest comes last: its summary is the last line, which CI reads.

use std::cell::RefCell;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;

use crate::beside::Beside;
use crate::builds::{self, BUILD_LIMIT, Purpose, TESTS};
use crate::child::RunError;
use crate::guests;
use crate::kernel;
use crate::licences;
use crate::nats;
use crate::project::Project;
use crate::python;
use crate::servers;
use crate::simulate;
use crate::steps::{self, Outcome, Step};
use crate::tidy;
use crate::tools;

/// How long a step that only checks may take.
const CHECK_LIMIT: Duration = Duration::from_secs(900);
/// How long all tests together may take, their build not counted.
const TESTS_LIMIT: Duration = Duration::from_secs(1800);
/// How long the pool's tests may take under valgrind.
const MEMORY_LIMIT: Duration = Duration::from_secs(600);
/// How long building and starting the fuzz targets may take on top of their own time.
const FUZZ_LIMIT: Duration = Duration::from_secs(600);
/// How many fuzz targets there may be for [`FUZZ_LIMIT`] to hold.
const FUZZ_TARGETS_MAX: u64 = 16;
/// The end-to-end tests of what the node, its verbs and pages do, whatever functions run in, and of what runs in processes only:
/// they run once.
const ABOUT_THE_NODE: &str = "binary(admin) or binary(browser) or binary(cli) or binary(cloudevents) or binary(cluster) or \
                              binary(deaths) or binary(events) or binary(examples) or binary(lambda) or binary(python) or \
                              binary(python_sdk) or binary(servers) or binary(sights) or binary(templates)";
/// How many tests run at once on a core: an end-to-end test waits for four fifths of its time and more.
const TESTS_PER_CORE: usize = 2;
/// Where nextest's own limits are.
const NEXTEST_CONFIG: &str = "xtask/nextest.toml";

/// What clippy looks at, and how strictly.
const CLIPPY: [&str; 5] = ["--workspace", "--all-targets", "--", "-D", "warnings"];
/// What runs beside the other steps, in this order: it waits for the network, and for one thread at a time.
const BESIDE: &[&str] = &["tools", "clippy-guests", "guests", "modules", "loom", "memory"];

/// What to test.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out what needs release builds, installed tools or minutes: end-to-end, loom, fuzz, valgrind
    #[arg(long)]
    quick: bool,
    /// Run this step alone (repeatable)
    #[arg(long, value_name = "STEP", value_parser = step_names())]
    only: Vec<String>,
}

type StepResult = Result<Outcome, Box<dyn Error>>;

/// What the steps work on.
struct Suite<'a> {
    project: &'a Project,
    quick: bool,
    /// What runs beside, until it is joined.
    beside: RefCell<Option<Beside<'a>>>,
}

/// Runs the steps that the options leave.
pub(crate) fn run(project: &Project, options: &Options) -> Result<(), Box<dyn Error>> {
    let all = !options.quick && options.only.is_empty();
    let wanted = |step: &&Step<Suite<'_>>| match options.only.as_slice() {
        [] => (step.quick || !options.quick) && !(all && BESIDE.contains(&step.name)),
        only => only.iter().any(|name| name == step.name),
    };
    let beside = if all { Some(Beside::start(project, BESIDE)?) } else { None };
    let suite = Suite { project, quick: options.quick, beside: RefCell::new(beside) };
    Ok(steps::run(&suite, all_steps().iter().filter(wanted))?)
}

/// `cargo xtask fuzz`: the fuzz targets, each for so many seconds. The suite runs them for a few among all other tests.
pub(crate) fn fuzz(project: &Project, seconds: u64) -> Result<(), RunError> {
    let mut command = project.cargo(&["test", "--profile", "fuzz", "--package", "baton-fuzz"]);
    command.env("BATON_FUZZ_SECONDS", seconds.to_string());
    let limit = FUZZ_LIMIT + Duration::from_secs(seconds * FUZZ_TARGETS_MAX);
    project.runner().run(&mut command, limit)
}

fn all_steps<'a>() -> Vec<Step<Suite<'a>>> {
    vec![
        Step { name: "format", quick: true, run: Suite::format },
        Step { name: "tidy", quick: true, run: Suite::tidy },
        Step { name: "clippy", quick: true, run: Suite::clippy },
        Step { name: "docs", quick: false, run: Suite::docs },
        Step { name: "licences", quick: true, run: Suite::licences },
        Step { name: "build-tests", quick: true, run: Suite::build_tests },
        Step { name: "doctests", quick: true, run: Suite::doctests },
        Step { name: "binaries", quick: false, run: Suite::binaries },
        Step { name: "simulate", quick: false, run: Suite::simulate },
        Step { name: "tools", quick: false, run: Suite::tools },
        Step { name: "clippy-guests", quick: false, run: Suite::clippy_guests },
        Step { name: "guests", quick: false, run: Suite::guests },
        Step { name: "modules", quick: false, run: Suite::modules },
        Step { name: "loom", quick: false, run: Suite::loom },
        Step { name: "memory", quick: false, run: Suite::memory },
        Step { name: "beside", quick: false, run: Suite::beside },
        Step { name: "kernel", quick: true, run: Suite::kernel },
        Step { name: "compartments", quick: false, run: Suite::compartments },
        Step { name: "wasm", quick: false, run: Suite::wasm },
        Step { name: "nodes", quick: false, run: Suite::nodes },
        Step { name: "ebpf", quick: false, run: Suite::ebpf },
        Step { name: "tests", quick: true, run: Suite::tests },
    ]
}

fn step_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(all_steps().iter().map(|step| step.name).collect::<Vec<_>>())
}

impl Suite<'_> {
    fn check(&self, command: &mut Command, limit: Duration) -> StepResult {
        self.project.runner().run(command, limit)?;
        Ok(Outcome::Done)
    }

    fn tools(&self) -> StepResult {
        tools::install_missing(
            self.project.runner(),
            &[
                &tools::VALGRIND,
                &tools::CHROMIUM,
                &tools::CHROMEDRIVER,
                &tools::PROMETHEUS,
                &tools::POSTGRES,
                &tools::CLANG,
            ],
        )?;
        nats::install_missing(self.project)?;
        python::install_missing(self.project)?;
        servers::install_missing(self.project)?;
        Ok(Outcome::Done)
    }

    /// The end of what runs beside.
    fn beside(&self) -> StepResult {
        match self.beside.take() {
            Some(beside) => beside.join().map(|()| Outcome::Done),
            None => Ok(Outcome::Skipped("nothing runs beside: these steps ran before".into())),
        }
    }

    fn format(&self) -> StepResult {
        let args = ["fmt", "--all", "--check"];
        for guest in self.project.guests() {
            self.check(&mut self.project.cargo_in(&guest, &args), CHECK_LIMIT)?;
        }
        self.check(&mut self.project.cargo(&args), CHECK_LIMIT)
    }

    fn tidy(&self) -> StepResult {
        tidy::run(self.project)?;
        Ok(Outcome::Done)
    }

    /// What runs in the kernel is what its source gives.
    fn kernel(&self) -> StepResult {
        kernel::check(self.project)
    }

    fn clippy(&self) -> StepResult {
        let mut command = self.project.cargo(&["clippy", "--profile", TESTS]);
        self.check(command.args(CLIPPY), BUILD_LIMIT)
    }

    fn clippy_guests(&self) -> StepResult {
        for guest in self.project.guests() {
            self.check(self.project.cargo_in(&guest, &["clippy"]).args(CLIPPY), BUILD_LIMIT)?;
        }
        Ok(Outcome::Done)
    }

    fn docs(&self) -> StepResult {
        let mut command = self.project.cargo(&[
            "doc",
            "--profile",
            TESTS,
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ]);
        self.check(command.env("RUSTDOCFLAGS", "-D warnings"), BUILD_LIMIT)
    }

    fn licences(&self) -> StepResult {
        if tools::find("cargo-deny").is_none() {
            licences::check(self.project)?;
            let why =
                "cargo-deny is not installed; licences and sources were checked without it, bans were not";
            return Ok(Outcome::Skipped(why.into()));
        }
        let args = ["deny", "--workspace", "check", "bans", "licenses", "sources"];
        self.check(&mut self.project.cargo(&args), CHECK_LIMIT)
    }

    fn doctests(&self) -> StepResult {
        let args = ["test", "--profile", TESTS, "--workspace", "--doc", "--quiet"];
        self.check(&mut self.project.cargo(&args), BUILD_LIMIT)
    }

    /// The pool's unit tests under valgrind, which sees reads of freed or never written memory.
    fn memory(&self) -> StepResult {
        if tools::VALGRIND.find().is_none() {
            return Ok(Outcome::Skipped("valgrind is not installed".into()));
        }
        // Without optimisation, which does not read what it does not need.
        let mut command = self.project.cargo(&["test", "--package", "baton-pool", "--lib", "--quiet"]);
        command.env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
            "valgrind --quiet --error-exitcode=9 --leak-check=no --fair-sched=yes",
        );
        command.env("PROPTEST_CASES", "8");
        self.check(&mut command, MEMORY_LIMIT)
    }

    /// The pool's lock-free parts under every interleaving that loom can think of.
    fn loom(&self) -> StepResult {
        if !mentions_loom(&self.project.root().join("crates/pool/src")) {
            return Ok(Outcome::Skipped("crates/pool has no loom tests".into()));
        }
        let args = ["test", "--package", "baton-pool", "--release", "--lib", "loom_"];
        let mut command = self.project.cargo(&args);
        command.env("RUSTFLAGS", "--cfg loom");
        command.env("CARGO_TARGET_DIR", self.project.target_dir()?.join("loom"));
        command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        command.env("LOOM_MAX_PREEMPTIONS", "3");
        self.check(&mut command, CHECK_LIMIT)
    }

    /// A small cluster in simulated time; it fails if an invocation is lost sight of or a dead node is called.
    fn simulate(&self) -> StepResult {
        simulate::run(self.project, &simulate::Options::quick(), Purpose::Test)?;
        Ok(Outcome::Done)
    }

    fn binaries(&self) -> StepResult {
        builds::binaries(self.project, builds::ALL_BINARIES, Purpose::Test)?;
        builds::compiler_once(self.project)?;
        Ok(Outcome::Done)
    }

    fn guests(&self) -> StepResult {
        builds::guests(self.project)?;
        Ok(Outcome::Done)
    }

    /// Functions as Wasm modules.
    fn modules(&self) -> StepResult {
        Ok(guests::run(self.project)?)
    }

    fn build_tests(&self) -> StepResult {
        let mut command = match has_nextest() {
            true => self.nextest(&["--no-run"]),
            false => self.cargo_test(&["--no-run"]),
        };
        self.check(&mut command, BUILD_LIMIT)
    }

    /// The end-to-end tests with functions in compartments: what holds for processes holds for them. Where they cannot be
    /// had, each test says so.
    fn compartments(&self) -> StepResult {
        let mut command = self.end_to_end(&format!("package(baton-e2e) and not ({ABOUT_THE_NODE})"));
        command.env("BATON_E2E_ISOLATION", "compartment");
        self.with_binaries(&mut command)?;
        self.check(&mut command, TESTS_LIMIT)
    }

    /// The same with the functions of each app laid over three nodes: what holds on one holds on several. Only those tests that ask
    /// for answers: what a node does to its own replicas is told by the others.
    fn nodes(&self) -> StepResult {
        if nats::find(self.project).is_none() {
            return Ok(Outcome::Skipped("there is no nats-server".into()));
        }
        let tests = "binary(basics) or binary(chains) or binary(files) or binary(references)";
        let mut command = self.end_to_end(&format!("package(baton-e2e) and ({tests})"));
        command.env("BATON_E2E_NODES", "3");
        self.with_binaries(&mut command)?;
        self.check(&mut command, TESTS_LIMIT)
    }

    /// The same where the kernel hands over between processes, if it does here: what holds for rings holds for it.
    fn ebpf(&self) -> StepResult {
        let mut doctor = Command::new(Purpose::Test.binary(self.project, "baton")?);
        let said = doctor.args(["doctor", "--json"]).output()?;
        let said: serde_json::Value = serde_json::from_slice(&said.stdout)?;
        if said["wake"]["ebpf"] != true {
            let why = format!("the kernel does not hand over here: {}", said["wake"]["why"]);
            return Ok(Outcome::Skipped(why));
        }
        let tests = "binary(basics) or binary(chains) or binary(files) or binary(references) or binary(deaths) or binary(scale) or binary(c)";
        let mut command = self.end_to_end(&format!("package(baton-e2e) and ({tests})"));
        command.env("BATON_E2E_WAKE", "ebpf");
        self.with_binaries(&mut command)?;
        self.check(&mut command, TESTS_LIMIT)
    }

    /// The same with functions as Wasm modules, where modules can be built. Components are the same beside modules as beside native
    /// functions, and the roads between nodes are those of compartments.
    fn wasm(&self) -> StepResult {
        if let Outcome::Skipped(why) = guests::run(self.project)? {
            return Ok(Outcome::Skipped(why));
        }
        let mut command = self.end_to_end(&format!(
            "package(baton-e2e) and not ({ABOUT_THE_NODE} or binary(components) or binary(third_party) or binary(elsewhere))"
        ));
        command.env("BATON_E2E_ISOLATION", "wasm");
        self.with_binaries(&mut command)?;
        self.check(&mut command, TESTS_LIMIT)
    }

    fn end_to_end(&self, filter: &str) -> Command {
        match has_nextest() {
            true => self.nextest(&["--no-fail-fast", "--filterset", filter]),
            false => {
                self.project.cargo(&["test", "--profile", TESTS, "--package", "baton-e2e", "--no-fail-fast"])
            }
        }
    }

    /// All tests, with functions in processes.
    fn tests(&self) -> StepResult {
        let mut command = if has_nextest() {
            self.nextest(&["--no-fail-fast"])
        } else {
            self.cargo_test(&["--no-fail-fast"])
        };
        self.with_binaries(&mut command)?;
        self.check(&mut command, TESTS_LIMIT)
    }

    /// How tests run: they find the binaries, and the modules that were built before, by these variables. Nodes compile each module
    /// once for all tests.
    fn with_binaries(&self, command: &mut Command) -> Result<(), Box<dyn Error>> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command.env("NEXTEST_TEST_THREADS", (cores * TESTS_PER_CORE).to_string());
        let built = |name: &str| Purpose::Test.binary(self.project, name);
        command.env("BATON_BIN", built("baton")?);
        command.env("BATON_BENCH_BIN", built("baton-bench")?);
        if let Some(server) = nats::find(self.project) {
            command.env("BATON_NATS_SERVER", server);
        }
        if let Some(python) = python::find(self.project) {
            command.env("BATON_TEST_PYTHON", python);
        }
        if let Some(servers) = servers::find(self.project) {
            command.env("BATON_TEST_SERVERS", servers);
        }
        if !self.quick {
            command.env("BATON_CELL_BIN", built("baton-cell")?);
            command.env("BATON_WASMC", built(builds::COMPILER_ONCE)?);
            command.env("BATON_MODULES", guests::directory(self.project)?);
        }
        Ok(())
    }

    fn nextest(&self, more: &[&str]) -> Command {
        let mut command = self.project.cargo(&["nextest", "run", "--cargo-profile", TESTS, "--workspace"]);
        command.args(["--config-file", NEXTEST_CONFIG, "--profile", "ci"]);
        if self.quick {
            command.args(["--filterset", "not (package(baton-e2e) or package(baton-fuzz))"]);
        }
        command.args(more);
        command
    }

    fn cargo_test(&self, more: &[&str]) -> Command {
        println!("cargo-nextest is not installed: cargo test takes its place");
        let mut command = self.project.cargo(&["test", "--profile", TESTS, "--workspace", "--all-targets"]);
        if self.quick {
            command.args(["--exclude", "baton-e2e", "--exclude", "baton-fuzz"]);
        }
        command.args(more);
        command
    }
}

fn has_nextest() -> bool {
    tools::find("cargo-nextest").is_some()
}

/// Whether any source below a directory is written for loom.
fn mentions_loom(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => mentions_loom(&path),
        false => std::fs::read_to_string(path).is_ok_and(|text| text.contains("fn loom_")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_names_are_unique_and_the_tests_come_last() {
        let names: Vec<_> = all_steps().iter().map(|step| step.name).collect();
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert_eq!(names.last(), Some(&"tests"));
    }

    #[test]
    fn quick_leaves_out_what_needs_release_builds() {
        let steps = all_steps();
        let quick: Vec<_> = steps.iter().filter(|step| step.quick).map(|step| step.name).collect();
        assert_eq!(
            quick,
            ["format", "tidy", "clippy", "licences", "build-tests", "doctests", "kernel", "tests"]
        );
    }

    #[test]
    fn what_runs_beside_is_joined_before_what_needs_it() {
        let steps = all_steps();
        let place = |name: &str| steps.iter().position(|step| step.name == name).unwrap();
        assert!(BESIDE.is_sorted_by_key(|name| place(name)));
        assert!(BESIDE.iter().all(|name| place(name) < place("beside") && !steps[place(name)].quick));
        for needs in ["kernel", "compartments", "wasm", "nodes", "ebpf", "tests"] {
            assert!(place("beside") < place(needs), "{needs}");
        }
    }

    #[test]
    fn loom_tests_are_looked_for_in_every_file() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("ring");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("tests.rs"), "fn other() {}").unwrap();
        assert!(!mentions_loom(directory.path()));
        std::fs::write(inner.join("model.rs"), "fn loom_one_writer() {}").unwrap();
        assert!(mentions_loom(directory.path()));
    }
}

//! What can be wrong with a manifest.

pub(super) mod message;
mod runtime;

use std::path::PathBuf;

pub use self::runtime::RuntimeFault;
use super::events::TriggerFault;
use super::secrets::SecretFault;
use super::subscriptions::SubscriptionFault;
use crate::names::{FunctionName, NameFault};
use crate::rollout::RolloutFault;
use crate::routes::{Method, MethodFault, PatternFault, RouteClash, RoutePattern};
use crate::units::{ByteSize, SizeFault, TimeFault};

/// What is wrong. `Display` says what; [`remedy`](Self::remedy) says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestFault {
    /// The file is larger than any manifest may be.
    FileTooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// The text is not TOML.
    Syntax {
        /// What the TOML parser says.
        message: String,
    },
    /// A key that no such table has.
    UnknownKey {
        /// The table; empty for the document.
        table: String,
        /// The key.
        key: String,
        /// The known key that it resembles.
        nearest: Option<String>,
        /// Every key that the table may have.
        known: &'static [&'static str],
    },
    /// A key that such a table must have.
    MissingKey {
        /// The table; empty for the document.
        table: String,
        /// The key.
        key: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// A value of another type than the key takes.
    WrongType {
        /// The key, with its table.
        key: String,
        /// What it takes.
        expected: &'static str,
        /// What it got.
        found: &'static str,
    },
    /// A word that is not in the key's vocabulary.
    UnknownWord {
        /// The key.
        key: String,
        /// The word.
        word: String,
        /// The known word that it resembles.
        nearest: Option<String>,
        /// Every word that the key takes.
        known: &'static [&'static str],
    },
    /// A bad name of an app or a function.
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// A bad size.
    Size {
        /// The key.
        key: String,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        fault: SizeFault,
    },
    /// A bad time.
    Time {
        /// The key.
        key: String,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        fault: TimeFault,
    },
    /// A bad share, or nothing that one can be known by.
    Rollout {
        /// The key.
        key: String,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        fault: RolloutFault,
    },
    /// A bad route path.
    Path {
        /// What stands there.
        path: String,
        /// What is wrong with it.
        fault: PatternFault,
    },
    /// A bad method.
    Method {
        /// What stands there.
        method: String,
        /// What is wrong with it.
        fault: MethodFault,
    },
    /// A value outside the bounds of its key.
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The least that it may be.
        min: String,
        /// The most that it may be.
        max: String,
    },
    /// More of something than there may be.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A text longer than it may be.
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The bytes that it may have.
        max: usize,
    },
    /// A text that is empty or holds NUL where neither makes sense.
    BadText {
        /// Which text.
        what: &'static str,
    },
    /// A handler of a policy that is not as it may be.
    Handler {
        /// The word behind `use`.
        handler: String,
        /// What is wrong.
        message: String,
    },
    /// The app has no function.
    NoFunctions,
    /// A function with neither build nor artifact.
    NoBuild {
        /// The function.
        function: String,
    },
    /// A function with both build and artifact, or with two ways to build.
    TwoBuilds {
        /// The function.
        function: String,
    },
    /// A build by command that does not name its output, or an output without a command.
    HalfBuild {
        /// The key that is missing.
        missing: &'static str,
    },
    /// A name that no environment entry can have.
    EnvName {
        /// The name.
        name: String,
    },
    /// A text that is no outgoing host.
    Host {
        /// The text.
        host: String,
    },
    /// Outgoing hosts for a function that cannot write the pool, where its requests and their answers lie.
    NetworkWithoutPool,
    /// A durable edge that is no edge.
    DurableWithoutCall {
        /// Who would call.
        caller: FunctionName,
        /// Whom.
        callee: FunctionName,
    },
    /// References for a function that does not see the pool, where what is behind them lies.
    ReferencesWithoutPool,
    /// Streams for a function that may not write the pool, where their parts lie.
    StreamWithoutPool,
    /// Times of streams for a function that has none.
    TimeoutsWithoutStream,
    /// A schedule or a queue of events that cannot be meant.
    Trigger(TriggerFault),
    /// A runtime, or a key that belongs to one, that cannot be meant.
    Runtime(RuntimeFault),
    /// Events that cannot go where they should.
    Subscription(SubscriptionFault),
    /// A secret that cannot be granted so.
    Secret(SecretFault),
    /// A call edge to a function that the app does not have.
    UnknownCallee {
        /// The caller.
        caller: FunctionName,
        /// The function that does not exist.
        callee: FunctionName,
        /// The function that it resembles.
        nearest: Option<String>,
    },
    /// A call edge from a function to itself.
    CallsItself {
        /// The function.
        function: FunctionName,
    },
    /// A call edge that stands twice.
    CalledTwice {
        /// The caller.
        caller: FunctionName,
        /// The callee.
        callee: FunctionName,
    },
    /// A route to a function that the app does not have.
    RouteToNowhere {
        /// The route.
        path: RoutePattern,
        /// The function that does not exist.
        function: FunctionName,
        /// The function that it resembles.
        nearest: Option<String>,
    },
    /// A route that answers no method.
    NoMethods {
        /// The route.
        path: RoutePattern,
    },
    /// A method that stands twice in one route.
    MethodTwice {
        /// The method.
        method: Method,
    },
    /// Two routes for the same paths and method.
    DuplicateRoute {
        /// Which two.
        clash: RouteClash,
        /// The line of the first one, where there are lines.
        first_line: Option<usize>,
    },
    /// `scale.min` above `scale.max`.
    MinAboveMax {
        /// `scale.min`.
        min: u32,
        /// `scale.max`.
        max: u32,
    },
    /// Huge pages for a pool that does not consist of whole ones.
    UnevenHugePages {
        /// The pool's size.
        size: ByteSize,
    },
    /// A Wasm function that is to run as a process where Wasm is lacking.
    WasmAsProcess,
    /// A setting that means something in a compartment only, elsewhere.
    NeedsCompartment {
        /// The key.
        key: &'static str,
    },
    /// A setting that means something for Wasm only, elsewhere.
    NeedsWasm {
        /// The key.
        key: &'static str,
    },
    /// A setting that means something for processes only, elsewhere.
    NeedsProcess {
        /// The key.
        key: &'static str,
    },
    /// The kernel shall hand over where functions are in cells, which it does not see into.
    WakeInCells {
        /// A function in a cell.
        function: FunctionName,
        /// Its isolation.
        isolation: &'static str,
    },
    /// A reset for a Wasm function, which has one anyway.
    ResetOfWasm,
    /// A new beginning with each request for a Wasm function that has several at once.
    FreshUnderOthers {
        /// `scale.concurrency`.
        concurrency: u32,
    },
    /// A reset after each request for a function that may run where there is none.
    ResetAsProcess,
    /// A reset after each request for a function that has several at once.
    ResetUnderOthers {
        /// `scale.concurrency`.
        concurrency: u32,
    },
    /// Files that do not lie in the manifest's directory.
    FilesOutside {
        /// What stands there.
        path: PathBuf,
    },
    /// A Wasm artifact for a function that does not run Wasm, or the reverse.
    ArtifactKind {
        /// The isolation setting.
        isolation: &'static str,
    },
}

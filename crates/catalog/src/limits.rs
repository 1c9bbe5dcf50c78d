//! Every maximum of a manifest, by name.
//!
//! A manifest is input from a person: each list and each text in it is bounded, so that nothing built from a
//! manifest (a route table, a link per edge, an environment block) can grow without bound.

use crate::rollout::Percent;
use crate::units::{ByteSize, TimeSpan};

/// Longest `baton.toml`, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;
/// Longest app or function name, in characters.
pub const NAME_CHARS_MAX: usize = 48;
/// Most functions of one app.
pub const FUNCTIONS_MAX: usize = 64;
/// Most subscriptions of one app.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Most types, or sources, of one subscription.
pub const EVENT_PATTERNS_MAX: usize = 32;
/// Longest type or source that a subscription names, in bytes.
pub const EVENT_PATTERN_BYTES_MAX: usize = 1024;
/// Most schedules of one app.
pub const CRON_MAX: usize = 64;
/// Longest schedule, in bytes.
pub const SCHEDULE_BYTES_MAX: usize = 256;
/// Largest body of a scheduled call, in bytes.
pub const CRON_BODY_BYTES_MAX: usize = 64 * 1024;
/// Most routes of one app.
pub const ROUTES_MAX: usize = 1024;
/// Most functions that one function may declare to call.
pub const CALLS_PER_FUNCTION_MAX: usize = 32;
/// Most call edges of one app: each costs a ring per pair of replicas.
pub const EDGES_MAX: usize = 512;
/// Longest route pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Most segments of a route pattern.
pub const SEGMENTS_MAX: usize = 32;
/// Most parameters of a route pattern, its wildcard included.
pub const PARAMS_MAX: usize = 8;
/// Longest parameter name, in characters.
pub const PARAM_NAME_CHARS_MAX: usize = 48;
/// Most methods of one route.
pub const METHODS_PER_ROUTE_MAX: usize = 16;
/// Longest method, in characters.
pub const METHOD_CHARS_MAX: usize = 32;
/// Most nodes that one function may name.
pub const NODES_PER_FUNCTION_MAX: usize = 64;
/// Most environment entries of one function.
pub const ENV_ENTRIES_MAX: usize = 128;
/// Longest environment entry, name and value together, in bytes.
pub const ENV_ENTRY_BYTES_MAX: usize = 32 * 1024;
/// Longest name of an environment entry that holds a secret, in bytes.
pub const SECRET_VARIABLE_BYTES_MAX: usize = 255;
/// Largest value of a secret, in bytes: with the longest name it is no longer than an environment entry may be.
pub const SECRET_BYTES_MAX: usize = ENV_ENTRY_BYTES_MAX - SECRET_VARIABLE_BYTES_MAX - 1;
/// Most secrets of one app.
pub const SECRETS_MAX: usize = 256;
/// Most arguments of one function.
pub const ARGS_MAX: usize = 128;
/// Longest argument, in bytes.
pub const ARG_BYTES_MAX: usize = 32 * 1024;
/// Most outgoing hosts of one function.
pub const NETWORK_HOSTS_MAX: usize = 64;
/// Longest outgoing host, in bytes: what DNS allows, a colon and a port.
pub const HOST_BYTES_MAX: usize = 253 + 6;
/// Longest path or command of a build, in bytes.
pub const BUILD_TEXT_BYTES_MAX: usize = 4096;
/// Longest path to the files of a function, in bytes.
pub const FILES_PATH_BYTES_MAX: usize = 4096;

/// Smallest pool.
pub const POOL_SIZE_MIN: ByteSize = ByteSize::from_mib(1);
/// Largest pool.
pub const POOL_SIZE_MAX: ByteSize = ByteSize::from_mib(1 << 20);
/// Pool of an app that declares none.
pub const POOL_SIZE_DEFAULT: ByteSize = ByteSize::from_mib(256);
/// The pool's size is a multiple of this where huge pages are asked for.
pub const HUGE_PAGE: ByteSize = ByteSize::from_mib(2);
/// Smallest memory bound of a replica.
pub const MEMORY_MIN: ByteSize = ByteSize::from_mib(1);
/// Largest memory bound of a replica.
pub const MEMORY_MAX: ByteSize = ByteSize::from_mib(1 << 20);
/// Largest memory bound of a compartment: what its part of a cell's address space has room for.
pub const COMPARTMENT_MEMORY_MAX: ByteSize = ByteSize::from_mib(32 << 10);
/// Largest pool of an app with Wasm functions: what a window into it has room for, beside the module's own memory.
pub const WASM_POOL_SIZE_MAX: ByteSize = ByteSize::from_mib(2031);
/// Memory bound of a function that declares none.
pub const MEMORY_DEFAULT: ByteSize = ByteSize::from_mib(64);
/// The same, of one that is not native: an interpreter and its libraries.
pub const RUNTIME_MEMORY_DEFAULT: ByteSize = ByteSize::from_mib(512);

/// Longest handler, interpreter's path and path of readiness, in bytes.
pub const RUNTIME_TEXT_BYTES_MAX: usize = 4096;
/// Lowest port that a program may listen on inside its sandbox, where it has no privileges.
pub const PORT_MIN: u16 = 1024;
/// Ports that an HTTP server may name beside the one it serves.
pub const PORTS_MAX: usize = 64;
/// Longest path of a Unix socket, in bytes: what the kernel takes, less the NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Shortest time that a call may be given.
pub const TIMEOUT_MIN: TimeSpan = TimeSpan::from_millis(1);
/// Longest time that a call may be given.
pub const TIMEOUT_MAX: TimeSpan = TimeSpan::from_millis(15 * 60 * 1000);
/// Time-out of a function that declares none.
pub const TIMEOUT_DEFAULT: TimeSpan = TimeSpan::from_millis(2_000);
/// Shortest time that a replica may be given to come up.
pub const START_MIN: TimeSpan = TimeSpan::from_millis(100);
/// Longest time that a replica may be given to come up.
pub const START_MAX: TimeSpan = TimeSpan::from_millis(15 * 60 * 1000);
/// How long a replica may take to come up where nothing is declared.
pub const START_DEFAULT: TimeSpan = TimeSpan::from_millis(10_000);
/// The same, of a module of Python or a function for Lambda: what they import takes its time.
pub const IMPORT_DEFAULT: TimeSpan = TimeSpan::from_millis(30_000);
/// Shortest of the times of a stream.
pub const STREAM_TIME_MIN: TimeSpan = TimeSpan::from_millis(1);
/// Longest of the times of a stream.
pub const STREAM_TIME_MAX: TimeSpan = TimeSpan::from_millis(7 * 24 * 3600 * 1000);
/// How long a stream may stand still that declares nothing.
pub const STREAM_IDLE_DEFAULT: TimeSpan = TimeSpan::from_millis(60_000);
/// Shortest idle time before a replica above `scale.min` is let go.
pub const IDLE_MIN: TimeSpan = TimeSpan::from_millis(1_000);
/// Longest idle time.
pub const IDLE_MAX: TimeSpan = TimeSpan::from_millis(24 * 60 * 60 * 1000);
/// Idle time of a function that declares none.
pub const IDLE_DEFAULT: TimeSpan = TimeSpan::from_millis(60_000);

/// Most replicas of one function.
pub const REPLICAS_MAX: u32 = 64;
/// Most requests at once in one replica.
pub const CONCURRENCY_MAX: u32 = 1024;
/// Most calls that wait for one function.
pub const QUEUE_MAX: u32 = 65_536;
/// Waiting calls of a function that declares no bound.
pub const QUEUE_DEFAULT: u32 = 128;
/// Smallest share of a core, in thousandths.
pub const CPU_MILLI_MIN: u32 = 10;
/// Most handlers in one list of policies.
pub const HANDLERS_MAX: usize = 32;
/// Largest share of the machine, in thousandths of a core.
pub const CPU_MILLI_MAX: u32 = 1_024_000;

/// Longest name of a header or a cookie by which one stays with a version, in characters.
pub const STICKY_NAME_CHARS_MAX: usize = 64;
/// How much higher a new version's share of failures may be where nothing is declared.
pub const ROLLBACK_ERRORS_DEFAULT: Percent = match Percent::from_hundredths(500) {
    Some(percent) => percent,
    None => Percent::ALL,
};
/// Requests that a new version answers before it is judged, where nothing is declared.
pub const ROLLBACK_AFTER_DEFAULT: u32 = 20;
/// Over how long a new version's answers are counted, where nothing is declared.
pub const ROLLBACK_WINDOW_DEFAULT: TimeSpan = TimeSpan::from_millis(60_000);
/// Shortest such time.
pub const ROLLBACK_WINDOW_MIN: TimeSpan = TimeSpan::from_millis(1_000);
/// Longest such time.
pub const ROLLBACK_WINDOW_MAX: TimeSpan = TimeSpan::from_millis(24 * 60 * 60 * 1000);
/// Most requests that a new version may answer before it is judged.
pub const ROLLBACK_AFTER_MAX: u32 = 1_000_000;

//! Every maximum of the control plane, by name.

use std::time::Duration;

/// Largest artifact, in bytes.
pub const ARTIFACT_BYTES_MAX: u64 = 512 << 20;
/// Uploads at once.
pub const UPLOADS_MAX: usize = 4;
/// Largest body of a deployment request: a manifest and a hash per function.
pub const DEPLOY_BYTES_MAX: usize = 8 << 20;
/// Largest body of an invocation by the admin API; larger ones go through the gateway.
pub const INVOKE_BYTES_MAX: usize = 64 << 20;
/// Invocations by the admin API at once.
pub const INVOKES_MAX: usize = 16;
/// Connections to one door of the admin API at once.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of a request.
pub const HEADERS_MAX: usize = 100;
/// How long a client may take over a request's head.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client may pause within a body.
pub const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest wait of a request for log lines.
pub const LOG_WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two looks at the log while a request waits for lines.
pub const LOG_POLL: Duration = Duration::from_millis(100);
/// Processes whose figures one overview tells; those of further ones are left out.
pub const PROCESSES_SHOWN_MAX: usize = 1024;
/// Log lines in one reply.
pub const LOG_LINES_MAX: usize = 1000;
/// How long an uploaded artifact is kept for the deployment that will name it.
pub const UPLOAD_KEPT: Duration = Duration::from_secs(600);
/// Uploaded artifacts that wait for their deployment at once.
pub const UPLOADS_WAITING_MAX: usize = 4096;
/// Largest executable of a compiled Wasm module and its engine, in bytes.
pub const COMPILED_BYTES_MAX: u64 = 512 << 20;
/// What the compiler says of a module that it refuses, in bytes.
pub const COMPILER_WORDS_MAX: u64 = 16 << 10;
/// How long the unpacked files of a version are kept that nothing names any more: longer than one drains.
pub const TREE_KEPT: Duration = Duration::from_secs(60);
/// Memory that the store's page cache may take, in bytes.
pub const STORE_CACHE_BYTES: usize = 1 << 20;
/// Longest path of a Unix socket, in bytes: what `sockaddr_un` holds, less the final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Between two rows of a node in the table of members.
pub const ROW_EVERY: Duration = Duration::from_secs(1);
/// How long a node counts as alive after its last row: two may be lost, and who vanishes is out within three seconds.
pub const ROW_LIVES: Duration = Duration::from_millis(2800);
/// How long the store keeps a row.
pub const ROW_KEPT: Duration = Duration::from_secs(3);
/// Between two looks at who was silent for too long.
pub const ROW_LOOK: Duration = Duration::from_millis(100);
/// How old a node's own row may be, as it came back, for it to say anything about the silence of others.
pub const OWN_ROW_WITHIN: Duration = Duration::from_millis(1500);
/// How long a node waits to see whether another one has its name.
pub const NAME_WITHIN: Duration = Duration::from_secs(6);
/// How long a starting node waits for the cluster's store before it starts with what it knows.
pub const JOIN_WITHIN: Duration = Duration::from_secs(5);
/// How long a node that ends takes to say farewell.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// How long the data plane may take to tell its figures for a row.
pub const FIGURES_WITHIN: Duration = Duration::from_millis(500);
/// How long one question to the cluster's store may take.
pub const BUS_REPLY_WITHIN: Duration = Duration::from_secs(3);
/// How long the way to or from the store of one artifact may take.
pub const BUS_ARTIFACT_WITHIN: Duration = Duration::from_secs(300);
/// Between two looks at what is wanted, where nothing was heard of a change.
pub const WANTED_EVERY: Duration = Duration::from_secs(5);
/// Between two tries to read what is wanted while that fails.
pub const WANTED_AGAIN: Duration = Duration::from_millis(500);
/// How long changes among members are gathered before functions move.
pub const MOVES_AFTER: Duration = Duration::from_millis(300);
/// How long an app that could not be started waits for the next try, at first and at most.
pub const START_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// Versions of an app that the cluster's store keeps, removals included.
pub const VERSIONS_KEPT: i64 = 16;
/// Versions of an app that a node keeps to go back to, what runs included.
pub const VERSIONS_KEPT_HERE: usize = 10;
/// Longest text by which whoever deploys names itself, in characters.
pub const DEPLOYED_BY_CHARS_MAX: usize = 128;
/// Between two looks at how a new version does.
pub const ROLLOUT_LOOK: Duration = Duration::from_millis(250);
/// Apps, drained nodes and secrets that a cluster may have.
pub const WANTED_ROWS_MAX: usize = 4096;
/// How long an artifact stays in the cluster's store that no kept version names.
pub const BUS_ARTIFACT_KEPT: Duration = Duration::from_secs(3600);
/// Between two sweeps of the cluster's store.
pub const BUS_SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Memory that the page cache of the events' file may take, in bytes.
pub const EVENTS_CACHE_BYTES: usize = 4 << 20;
/// Largest body of an event, in bytes.
pub const EVENT_BYTES_MAX: usize = 16 << 20;
/// Events that may wait in a cluster.
pub const EVENTS_SHARED_MAX: i64 = 1_000_000;
/// Bytes of all bodies that may wait on a node, or in a cluster's store.
pub const EVENTS_BYTES_MAX: u64 = 1 << 30;
/// Events that are tried at once on a node.
pub const EVENTS_AT_ONCE_MAX: usize = 256;
/// Events that came to nothing that are kept to be looked at.
pub const EVENTS_DEAD_MAX: u64 = 1000;
/// Between two tries to write what an event came to.
pub const EVENT_WRITE_AGAIN: Duration = Duration::from_millis(500);
/// How late a schedule's time may be noticed and still counts: the clock was set, or the machine slept.
pub const CRON_LATE_MAX: Duration = Duration::from_secs(60);

/// Largest body of a request to the Lambda API: a package of 50 MiB in base64, or a payload.
pub const LAMBDA_BODY_BYTES_MAX: usize = 72 << 20;
/// Bodies that the Lambda API has in memory at once.
pub const LAMBDA_ROOM_BYTES: usize = 512 << 20;
/// Connections to the Lambda API at once.
pub const LAMBDA_CONNECTIONS_MAX: usize = 1024;
/// How long the lines that a call wrote are waited for, where its caller wants them.
pub const LAMBDA_LOG_WAIT_MAX: Duration = Duration::from_millis(500);

//! Every bound of the crate, and what they add up to.
//!
//! | memory | at most |
//! |---|---|
//! | one call lane, caller | [`CALLS_MAX`] calls out, [`OUTBOX_BYTES_MAX`] bytes not yet written, one frame half read |
//! | one call lane, callee | [`INCOMING_BYTES_MAX`] bytes of requests, an answer for each of [`CALLS_MAX`] calls, one frame half read |
//! | one bulk lane, sender | [`PULLS_PER_LANE_MAX`] pulls, each a hold that exists anyway; [`OUT_FRAMES_MAX`] small frames; the socket's buffer |
//! | one bulk lane, receiver | the rooms, which exist anyway; the socket's buffer |
//! | vault | [`HOLDS_MAX`] holds, [`HELD_BYTES_MAX`] bytes of each app, [`ENDED_MAX`] memories of holds that ended |
//! | connections | [`GREETING_MAX`] before their hello, [`LANES_PER_PEER_MAX`] bulk lanes and one call lane of each peer, [`PEERS_MAX`] peers |

use std::time::Duration;

/// Bytes of a body that travel inside the frame of a call or an answer.
pub const INLINE_MAX: usize = 64 * 1024;
/// Bytes of a head.
pub const HEAD_MAX: usize = baton_abi::limits::HEAD_MAX_BYTES;
/// Bytes of a name: cluster, node, app, function.
pub const NAME_MAX: usize = 128;
/// Bytes of the body of a hello.
pub const HELLO_MAX: usize = 2 * NAME_MAX + 64;
/// Bytes of the body of a call or an answer: fixed fields, names, head, inline body.
pub const CALL_FRAME_MAX: usize = 128 + 2 * NAME_MAX + HEAD_MAX + INLINE_MAX;
/// Bytes of one piece of a pull on the wire: what a small pull waits for behind a large one.
pub const CHUNK: u64 = 256 * 1024;
/// How much longer pieces are while nothing else is to be sent on a lane: fewer headers and system calls at both ends.
pub const ALONE: u64 = 4;
/// Largest piece that is taken from a peer.
pub const CHUNK_MAX: u64 = 1 << 20;

/// Calls on one lane that are not answered.
pub const CALLS_MAX: usize = 512;
/// Bytes of calls that wait to be written to one peer.
pub const OUTBOX_BYTES_MAX: usize = 8 << 20;
/// Bytes of requests of one peer that are being served.
pub const INCOMING_BYTES_MAX: usize = 16 << 20;
/// Answers that wait to be written, in bytes, before no more calls are read from a peer.
pub const ANSWERS_BYTES_MAX: usize = 16 << 20;
/// Longest time of a call.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Between two looks at whether the peer of a call lane is there.
pub const PING_EVERY: Duration = Duration::from_millis(500);
/// Silence after which a peer is down.
pub const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Pulls of one endpoint that are not done.
pub const PULLS_MAX: usize = 4096;
/// Pulls that a peer may have on one lane.
pub const PULLS_PER_LANE_MAX: usize = 256;
/// Bytes that are sent of one pull before the receiver asks for more.
pub const WINDOW: u64 = 8 << 20;
/// Lanes that one large pull from another machine is spread over, since one stream seldom fills a network. Under one kernel several
/// were no faster than one.
pub const STRIPES: usize = 2;
/// Lanes that one pull may be spread over.
pub const STRIPES_MAX: usize = 4;
/// From this many bytes on, a pull is spread over several lanes.
pub const STRIPE_FROM: u64 = 32 << 20;
/// Bulk lanes that a peer may have open to this node.
pub const LANES_PER_PEER_MAX: usize = 8;
/// Small frames that wait to be written on one bulk lane before no more is read from it.
pub const OUT_FRAMES_MAX: usize = 512;
/// Acknowledgements of one peer that wait for a lane, or that a broken lane may have lost.
pub const ACKS_MAX: usize = 4096;
/// How long an acknowledgement is tried.
pub const ACK_WITHIN: Duration = Duration::from_secs(10);
/// A lane with pulls on which nothing moves is broken.
pub const PROGRESS_WITHIN: Duration = Duration::from_secs(5);
/// A bulk lane without pulls is closed by who dialled it.
pub const IDLE: Duration = Duration::from_secs(30);
/// Bytes that were sent and are not acknowledged by the peer's kernel after this long: the connection is reset.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// Holds of one endpoint.
pub const HOLDS_MAX: usize = 65_536;
/// Bytes that one app may have held.
pub const HELD_BYTES_MAX: u64 = 4 << 30;
/// Retrievals of one hold.
pub const RETRIEVALS_MAX: u16 = 256;
/// Longest life of a hold.
pub const HOLD_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long an answer is held for its caller at most.
pub const ANSWER_HELD: Duration = Duration::from_secs(60);
/// What a call's body and answer are held for beyond the call's own time.
pub const HELD_BEYOND: Duration = Duration::from_secs(5);
/// Holds whose end is remembered, so that who comes late learns why.
pub const ENDED_MAX: usize = 4096;

/// Peers of one endpoint.
pub const PEERS_MAX: usize = 1024;
/// Connections that have not said hello.
pub const GREETING_MAX: usize = 64;
/// Time for handshake and hello.
pub const GREET_WITHIN: Duration = Duration::from_secs(3);
/// Time for a connection.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// First pause before dialling again; it doubles.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest pause before dialling again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Commands that wait for the transfer thread.
pub const COMMANDS_MAX: usize = PULLS_MAX + 1024;
/// Lanes that were accepted and wait for the data thread.
pub const ACCEPTED_MAX: usize = 64;

/// What can be set lower, by tests above all; never higher than a peer takes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// See [`INLINE_MAX`].
    pub inline: usize,
    /// See [`CALLS_MAX`].
    pub calls: usize,
    /// See [`OUTBOX_BYTES_MAX`].
    pub outbox_bytes: usize,
    /// See [`INCOMING_BYTES_MAX`].
    pub incoming_bytes: usize,
    /// See [`CHUNK`].
    pub chunk: u64,
    /// See [`WINDOW`].
    pub window: u64,
    /// Lanes that one large pull is spread over; `None`: [`STRIPES`] to another machine, one to a peer under the same kernel.
    pub stripes: Option<usize>,
    /// See [`STRIPE_FROM`].
    pub stripe_from: u64,
    /// See [`PULLS_PER_LANE_MAX`].
    pub pulls_per_lane: usize,
    /// See [`HOLDS_MAX`].
    pub holds: usize,
    /// See [`HELD_BYTES_MAX`].
    pub held_bytes: u64,
    /// See [`ANSWER_HELD`].
    pub answer_held: Duration,
    /// See [`PROGRESS_WITHIN`].
    pub progress_within: Duration,
    /// See [`GREET_WITHIN`].
    pub greet_within: Duration,
    /// Held bytes go out from the pool's file (`sendfile`), or are copied into the socket's buffer; `None`: by whether the peer is on
    /// another machine. No limit, but like them nothing that a peer can see.
    pub send_from_file: Option<bool>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            inline: INLINE_MAX,
            calls: CALLS_MAX,
            outbox_bytes: OUTBOX_BYTES_MAX,
            incoming_bytes: INCOMING_BYTES_MAX,
            chunk: CHUNK,
            window: WINDOW,
            stripes: None,
            stripe_from: STRIPE_FROM,
            pulls_per_lane: PULLS_PER_LANE_MAX,
            holds: HOLDS_MAX,
            held_bytes: HELD_BYTES_MAX,
            answer_held: ANSWER_HELD,
            progress_within: PROGRESS_WITHIN,
            greet_within: GREET_WITHIN,
            send_from_file: None,
        }
    }
}

//! Hostile functions: whatever one does, its call or its replica ends, and nothing else.
//!
//! Real processes, driven through [`baton_flow::Flow`]. Beside every villain runs another app, which must answer
//! correctly all the time. Afterwards every buffer is back. The guests live in `e2e/villain`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod death;
mod edges;
mod kernel;
mod node;
mod stage;
mod workspace;

use stage::Expect;

/// One test for each attack: its name, what becomes of the calls.
macro_rules! attacks {
    ($($name:ident: $attack:literal => $expect:expr;)*) => {
        $(#[test] fn $name() { crate::stage::strike($attack, $expect); })*
    };
}

attacks! {
    // Answers with payloads that are not there, or not the villain's.
    forged_index: "forged-index" => Expect::Bad;
    index_beyond_the_table: "index-beyond" => Expect::Bad;
    index_near_the_end_of_numbers: "index-max" => Expect::Bad;
    stale_generation: "stale" => Expect::Bad;
    offset_outside_the_buffer: "offset-outside" => Expect::Bad;
    length_outside_the_buffer: "len-outside" => Expect::Bad;
    range_that_wraps: "wrapping" => Expect::Bad;
    length_that_wraps: "wrapping-len" => Expect::Bad;
    payload_that_was_not_sent: "not-sent" => Expect::Bad;
    payload_that_was_not_taken: "not-taken" => Expect::Bad;
    payload_without_the_right_to_read: "no-rights" => Expect::Bad;
    derived_capability_that_lies_elsewhere: "derived-elsewhere" => Expect::Bad;
    head_outside_its_buffer: "head-outside" => Expect::Bad;
    head_whose_range_wraps: "head-wraps" => Expect::Bad;
    head_larger_than_a_link_carries: "head-huge" => Expect::BadOnce;
    head_of_a_derived_capability: "head-of-derived" => Expect::Bad;
    malformed_head_records: "head-garbage" => Expect::Fine;
    inline_payload_of_absurd_length: "inline-huge" => Expect::Fine;
    all_flags_at_once: "all-flags" => Expect::Any;
    error_message_of_megabytes: "error-huge" => Expect::Function;
    absurd_high_water_mark: "high-water" => Expect::Fine;

    // Answers to calls that are not its own, descriptors that mean nothing.
    reply_twice: "reply-twice" => Expect::Any;
    reply_to_an_unknown_tag: "unknown-tag" => Expect::Dies("three bad descriptors");
    unknown_kinds: "unknown-kinds" => Expect::Dies("three bad descriptors");
    double_free: "double-free" => Expect::Dies("three bad descriptors");
    free_of_foreign_buffers: "free-foreign" => Expect::Dies("three bad descriptors");
    free_of_forged_handles: "free-forged" => Expect::Dies("three bad descriptors");

    // Rings and bells.
    ring_overrun: "overrun" => Expect::Dies("overran");
    ring_overrun_by_one: "overrun-by-one" => Expect::Dies("overran");
    ring_position_that_wraps: "overrun-wraps" => Expect::Dies("overran");
    ring_position_half_way_round: "overrun-half" => Expect::Dies("overran");
    ring_replayed_as_a_whole: "replay-ring" => Expect::Dies("three bad descriptors");
    garbage_over_the_link: "garbage-link" => Expect::Down;
    head_that_goes_back: "head-back" => Expect::Any;
    head_of_the_node_overwritten: "node-head" => Expect::Fine;
    descriptors_changed_after_publishing: "rewrite" => Expect::Any;
    bell_rung_without_end: "bell-flood" => Expect::Fine;
    bell_filled_to_the_brim: "bell-full" => Expect::Any;
    bell_made_blocking: "bell-blocks" => Expect::Any;
    bell_silenced: "bell-mute" => Expect::Any;
    link_never_read: "never-reads" => Expect::Late;

    // The capability table.
    garbage_over_the_table: "garbage-table" => Expect::Any;
    all_buffers_called_the_nodes: "all-the-nodes" => Expect::Dies("status 5");
    all_buffers_called_orphans: "all-orphans" => Expect::Dies("status 5");
    all_buffers_sent_to_nobody: "all-to-nobody" => Expect::Dies("status 5");
    all_buffers_stolen_and_freed: "all-mine" => Expect::Any;
    parents_in_a_circle: "cycles" => Expect::Any;
    sweeps_without_end: "orphans" => Expect::Any;

    // Floods.
    allocations_of_absurd_size: "alloc-absurd" => Expect::Fine;
    allocation_flood: "alloc-flood" => Expect::Any;
    large_allocation_flood: "alloc-large-flood" => Expect::Any;
    refill_flood: "refill-flood" => Expect::Any;
    refills_of_nothing: "refill-none" => Expect::Any;
    churn_of_large_buffers: "churn" => Expect::Any;
    log_flood: "log-flood" => Expect::Any;
    handler_that_never_returns: "spin" => Expect::Late;
    handler_that_only_looks_alive: "busy-liar" => Expect::Late;
    random_descriptors: "noise" => Expect::Any;

    // The control socket, once it is ready.
    control_socket_closed: "close-control" => Expect::Fine;
}

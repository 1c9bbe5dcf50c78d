/* The kernel hands over: checks a packet that a replica wrote to its socket, moves what it names in the app's capability table, and
 * puts it on the receiver's socket. What is refused stays as it was and is sent on, unchanged, to the other end of the sender's
 * socket, which is the node's; never dropped, because a dropped message closes its sender's socket for good.
 *
 * A message is one packet or several in a row, each of which is judged by itself; those that go the same way go together. Whoever sent it is known by its socket alone. Two
 * threads, or a child that inherited the socket, may run this at the same time, and the node and other replicas' sends beside them. So:
 *
 *   field                          who may write it
 *   word of an entry               compare-exchange only, from what the old word allows
 *   other fields of an entry       who brought its word to IN_FLIGHT, until it leaves that state; `high_water` only grows
 *   counts of an edge              compare-exchange only; the node opens and closes by a plain store, with an epoch of its own
 *
 * A refusal after a first step undoes the steps before it. An undo is a compare-exchange too: it fails only where the node has
 * revoked, or the receiver has passed on, what it would give back, and then that is who has it.
 */
#include "handover.h"
#include "kernel.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct entry);
} table SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct edge);
} edges SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct counters);
} counts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, CAUSES);
    __type(key, u32);
    __type(value, u64);
} causes SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SOCKMAP);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u32);
} sockets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, u32);
    __type(value, struct identity);
} identities SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, struct orders);
} orders SEC(".maps");

/* Set when the program is loaded. */
const volatile u32 SLOTS = 0;

struct sock {
    struct {
        struct atomic_number rmem_alloc;
    } RELOCATED sk_backlog;
} RELOCATED;

#define CAS(place, old, new) __sync_val_compare_and_swap(place, old, new)
#define READ(place) (*(volatile typeof(place) *)&(place))
/* The compiler may not read a shared place twice where it is written once. */
#define WRITE(place, value) (*(volatile typeof(place) *)&(place) = (value))

#define generation_of(word) ((u32)((word) >> 32))
#define holder_of(word) ((u16)((word) >> 16))
#define state_of(word) ((u8)((word) >> 8))
#define rights_of(word) ((u8)(word))

INLINE u64 with_hold(u64 word, u8 state, u16 holder)
{
    return (word & 0xffffffff000000ffull) | (u64)holder << 16 | (u64)state << 8;
}

INLINE int is_in_hands_of(u64 word, u16 holder)
{
    u8 state = state_of(word);
    return holder_of(word) == holder && (state == STATE_HELD || state == STATE_STASHED);
}

INLINE struct entry *entry_at(u32 index)
{
    return bpf_map_lookup_elem(&table, &index);
}

/* Whether [offset, offset + len) ends at or before `end`, without overflow. */
INLINE int ends_within(u64 offset, u64 len, u64 end)
{
    return offset <= end && len <= end - offset;
}

/* What is returned of a packet that is not on its way. */
#define REFUSED 2

/* Counts a refusal, of the edge too unless that is NONE. */
GLOBAL int refuse(u32 cause, u32 edge)
{
    u64 *count = bpf_map_lookup_elem(&causes, &cause);
    if (count)
        __sync_fetch_and_add(count, 1);
    struct counters *of_edge = edge == NONE ? 0 : bpf_map_lookup_elem(&counts, &edge);
    if (of_edge)
        __sync_fetch_and_add(&of_edge->refusals, 1);
    return REFUSED;
}

/* Brings `high_water` to at least `written`. A loser of every race below lost to someone who wrote more, or to its own threads. */
GLOBAL int note_written(u32 index, u64 written)
{
    struct entry *entry = entry_at(index);
    if (!entry)
        return 0;
    for (int i = 0; i < 4; i++) {
        u64 old = READ(entry->high_water);
        if (old >= written || CAS(&entry->high_water, old, written) == old)
            return 1;
    }
    return 0;
}

/* Takes a root out of its holder's hands, for the time of a hand-over. Gives -1, or why not. */
INLINE int seize(struct entry *entry, u32 generation, u16 holder, u8 need, u64 *was)
{
    u64 word = READ(entry->word);
    if (generation_of(word) != generation)
        return CAUSE_STALE;
    if (state_of(word) == STATE_REVOKED)
        return CAUSE_REVOKED;
    if (!is_in_hands_of(word, holder))
        return CAUSE_HELD;
    if ((rights_of(word) & need) != need)
        return CAUSE_RIGHTS;
    if (CAS(&entry->word, word, with_hold(word, STATE_IN_FLIGHT, holder)) != word)
        return CAUSE_RACE;
    *was = word;
    return -1;
}

/* Whether nothing up the way from `entry` was revoked; how long the way is, or -1. A recycled entry has parents of its own: the way
 * ends there, as it does for everybody else who walks it. The root has to be there still.
 */
GLOBAL int depth_of(u32 index, u32 generation)
{
    int depth = 0;
    for (int i = 0; i < DEPTH_MAX; i++) {
        struct entry *entry = entry_at(index);
        if (!entry)
            return depth;
        u64 word = READ(entry->word);
        if (generation_of(word) != generation)
            return depth;
        if (state_of(word) == STATE_REVOKED)
            return -1;
        depth++;
        u64 parent = READ(entry->parent);
        if (parent == NO_PARENT)
            return depth;
        index = parent >> 32;
        generation = (u32)parent;
    }
    return DEPTH_MAX;
}

/* Whether the entry at `index` was derived, at any depth, from the capability `ancestor`, packed as parents are. */
GLOBAL int descends(u32 index, u64 ancestor)
{
    struct entry *entry = entry_at(index);
    if (!entry)
        return 0;
    if (((u64)READ(entry->slot) << 32 | READ(entry->slot_generation)) == ancestor)
        return 1;
    for (int i = 0; i <= DEPTH_MAX; i++) {
        u64 parent = READ(entry->parent);
        if (parent == ancestor)
            return 1;
        if (parent == NO_PARENT)
            return 0;
        index = parent >> 32;
        entry = entry_at(index);
        if (!entry || generation_of(READ(entry->word)) != (u32)parent)
            return 0;
    }
    return 0;
}

struct derivation {
    u32 parent;
    u32 parent_generation;
    u64 offset;
    u64 len;
    u64 written;
    u32 into;
    u16 holder;
    u8 rights;
};

/* Makes a child of a capability that `holder` has, at `into`, in nobody's hands yet. Gives -1 and the child's word, or why not. */
static __attribute__((noinline)) int derive(struct derivation *what, u64 *made)
{
    struct entry *parent = entry_at(what->parent);
    if (!parent)
        return CAUSE_HANDLE;
    u64 word = READ(parent->word);
    if (generation_of(word) != what->parent_generation)
        return CAUSE_STALE;
    if (state_of(word) == STATE_REVOKED)
        return CAUSE_REVOKED;
    if (!is_in_hands_of(word, what->holder))
        return CAUSE_HELD;
    if (!(rights_of(word) & RIGHT_PASS) || !what->rights || (what->rights & ~rights_of(word)))
        return CAUSE_RIGHTS;
    if (what->parent < SLOTS) {
        if (!ends_within(what->offset, what->len, what->written))
            return CAUSE_RANGE;
    } else {
        u64 from = READ(parent->offset), len = READ(parent->len);
        if (what->offset < from || !ends_within(what->offset - from, what->len, len))
            return CAUSE_RANGE;
    }
    int depth = depth_of(what->parent, what->parent_generation);
    if (depth < 0)
        return CAUSE_REVOKED;
    if (depth >= DEPTH_MAX)
        return CAUSE_DEPTH;
    struct entry *child = entry_at(what->into);
    if (!child)
        return CAUSE_INTO;
    u64 old = READ(child->word);
    u8 state = state_of(old);
    if (state != STATE_FREE && state != STATE_RELEASED && state != STATE_REVOKED)
        return CAUSE_INTO;
    u32 generation = generation_of(old) + 1;
    if (!generation)
        generation = 1;
    u64 mine = (u64)generation << 32 | (u64)what->holder << 16 | STATE_IN_FLIGHT << 8 | what->rights;
    if (CAS(&child->word, old, mine) != old)
        return CAUSE_RACE;
    WRITE(child->offset, what->offset);
    WRITE(child->len, what->len);
    WRITE(child->expiry_ns, READ(parent->expiry_ns));
    WRITE(child->parent, (u64)what->parent << 32 | what->parent_generation);
    WRITE(child->slot, READ(parent->slot));
    WRITE(child->slot_generation, READ(parent->slot_generation));
    WRITE(child->invocation, READ(parent->invocation));
    WRITE(child->high_water, 0);
    /* What was derived itself is marked before the child is there to be found: who ends it looks for children only then. */
    note_written(what->parent, what->parent < SLOTS ? what->written : 1);
    *made = mine;
    return -1;
}

/* Makes the child that a packet asks for, in its sender's own range. Gives -1 and the child's word, or why not. */
INLINE int derive_said(const struct packet *packet, const struct identity *from, u64 *made)
{
    u32 first = SLOTS + from->arena * ARENA_ENTRIES;
    if (packet->into < first || packet->into - first >= ARENA_ENTRIES)
        return CAUSE_INTO;
    struct derivation what = {
        .parent = packet->body_handle,
        .parent_generation = packet->body_generation,
        .offset = packet->body_offset,
        .len = packet->body_len,
        .written = packet->written,
        .into = packet->into,
        .holder = from->holder,
        .rights = packet->rights,
    };
    return derive(&what, made);
}

/* What one hand-over has in its hands. An entry is 0 if there is none. */
struct hand_over {
    struct entry *body;
    struct entry *head;
    u64 body_was;
    u64 head_was;
    /* What to leave where the hand-over does not come about. */
    u64 body_back;
    u64 epoch;
    /* Whose refusal it is, or NONE. */
    u32 counted;
    /* Where it goes. */
    u16 to;
    u16 arena;
};

/* Gives back what is in flight. */
INLINE void give_back(struct hand_over *hand, u16 holder)
{
    if (hand->head)
        CAS(&hand->head->word, with_hold(hand->head_was, STATE_IN_FLIGHT, holder), hand->head_was);
    if (hand->body)
        CAS(&hand->body->word, with_hold(hand->body_was, STATE_IN_FLIGHT, holder), hand->body_back);
}

#define OUTSTANDING(counts) ((counts) & 0xffff)
#define CANCELS(counts) ((counts) >> 16 & 0xffff)
#define ONE_CANCEL 0x10000

/* Accounts for one packet of `kind` in the counts of its edge. Gives -1, or why not. */
GLOBAL int account(u32 id, u64 epoch, u32 kind)
{
    struct edge *edge = bpf_map_lookup_elem(&edges, &id);
    if (!edge)
        return CAUSE_EDGE;
    for (int i = 0; i < 32; i++) {
        u64 old = READ(edge->counts), new;
        if (old >> 32 != epoch)
            return CAUSE_CLOSED;
        if (kind == KIND_REQUEST) {
            if (OUTSTANDING(old) >= CREDITS)
                return CAUSE_CREDIT;
            new = old + 1 + (CANCELS(old) < CREDITS ? ONE_CANCEL : 0);
        } else if (kind == KIND_REPLY) {
            if (!OUTSTANDING(old))
                return CAUSE_REPLY;
            new = old - 1;
        } else {
            if (!CANCELS(old))
                return CAUSE_CANCEL;
            new = old - ONE_CANCEL;
        }
        if (CAS(&edge->counts, old, new) == old)
            return -1;
    }
    return CAUSE_RACE;
}

GLOBAL int account_back(u32 id, u64 epoch, u32 kind)
{
    struct edge *edge = bpf_map_lookup_elem(&edges, &id);
    if (!edge)
        return 0;
    for (int i = 0; i < 32; i++) {
        u64 old = READ(edge->counts), new;
        if (old >> 32 != epoch)
            return 0;
        if (kind == KIND_REQUEST) {
            if (!OUTSTANDING(old))
                return 0;
            new = old - 1 - (CANCELS(old) && CANCELS(old) < CREDITS ? ONE_CANCEL : 0);
        } else if (kind == KIND_REPLY) {
            new = old + 1;
        } else {
            new = old + ONE_CANCEL;
        }
        if (CAS(&edge->counts, old, new) == old)
            return 1;
    }
    return 0;
}

/* What flags and ranges may say together. */
INLINE int is_sane(const struct packet *packet)
{
    u8 flags = packet->flags, is_lent = flags & FLAG_LEND, is_shared = flags & FLAG_SHARE;
    if (flags & ~(FLAG_LEND | FLAG_SHARE | FLAG_RECORD | FLAG_ERROR | FLAG_INLINE | FLAG_REFUSED))
        return 0;
    if (packet->body_handle == NONE) {
        u64 inside = flags & FLAG_INLINE ? INLINE_MAX : 0;
        if (is_lent || is_shared || packet->into != NONE || packet->body_len > inside)
            return 0;
    } else if (flags & FLAG_INLINE) {
        return 0;
    } else if (packet->into == NONE) {
        if (is_lent || is_shared)
            return 0;
    } else if (!is_lent == !is_shared || packet->head_handle == packet->body_handle) {
        return 0;
    }
    if (is_lent && packet->kind != KIND_REQUEST)
        return 0;
    if (is_shared && packet->rights & RIGHT_WRITE)
        return 0;
    if (packet->kind == KIND_CANCEL && (packet->body_handle != NONE || packet->head_handle != NONE))
        return 0;
    return packet->head_handle != NONE || !packet->head_len;
}

/* Takes the body out of its sender's hands, or derives what the receiver gets of it. Gives -1, or why not. */
INLINE int take_body(struct hand_over *hand, const struct packet *packet, const struct identity *from)
{
    if (packet->into == NONE) {
        if (packet->body_handle >= SLOTS)
            return CAUSE_HANDLE;
        if (!ends_within(packet->body_offset, packet->body_len, packet->written))
            return CAUSE_RANGE;
        struct entry *root = entry_at(packet->body_handle);
        if (!root)
            return CAUSE_HANDLE;
        int why = seize(root, packet->body_generation, from->holder, RIGHT_PASS, &hand->body_was);
        if (why >= 0)
            return why;
        hand->body_back = hand->body_was;
        hand->body = root;
        return -1;
    }
    int why = derive_said(packet, from, &hand->body_was);
    if (why >= 0)
        return why;
    hand->body_back = with_hold(hand->body_was, STATE_FREE, NODE);
    hand->body = entry_at(packet->into);
    return hand->body ? -1 : CAUSE_INTO;
}

INLINE int take_head(struct hand_over *hand, const struct packet *packet, const struct identity *from)
{
    u64 end = (u64)packet->head_offset + packet->head_len;
    if (packet->head_handle == packet->body_handle) {
        if (packet->head_generation != packet->body_generation)
            return CAUSE_STALE;
        return end <= packet->written ? -1 : CAUSE_RANGE;
    }
    if (packet->head_handle >= SLOTS)
        return CAUSE_HANDLE;
    struct entry *root = entry_at(packet->head_handle);
    if (!root)
        return CAUSE_HANDLE;
    int why = seize(root, packet->head_generation, from->holder, RIGHT_PASS, &hand->head_was);
    if (why < 0)
        hand->head = root;
    return why;
}

/* Notes what a root that is in flight carries. */
INLINE void describe(struct entry *root, u32 index, u64 offset, u64 len, u64 written, u64 invocation)
{
    WRITE(root->offset, offset);
    WRITE(root->len, len);
    WRITE(root->invocation, invocation);
    note_written(index, written);
}

/* Brings what is in flight into the hands of `to`. Gives -1, or why not, with everything given back. */
INLINE int land(struct hand_over *hand, const struct packet *packet, u16 holder, u16 to)
{
    if (hand->body) {
        u64 flying = with_hold(hand->body_was, STATE_IN_FLIGHT, holder);
        if (CAS(&hand->body->word, flying, with_hold(flying, STATE_HELD, to)) != flying) {
            hand->body = 0;
            give_back(hand, holder);
            return CAUSE_REVOKED;
        }
        /* Whoever revokes marks the parent, then looks for children; here is the child, then a look at the parent. The exchange is a
         * full fence on both sides: one of them sees the other. */
        if (packet->into != NONE) {
            struct entry *parent = entry_at(packet->body_handle);
            u64 word = parent ? READ(parent->word) : 0;
            if (generation_of(word) != packet->body_generation || !is_in_hands_of(word, holder)) {
                CAS(&hand->body->word, with_hold(flying, STATE_HELD, to), with_hold(flying, STATE_REVOKED, holder));
                hand->body = 0;
                give_back(hand, holder);
                return CAUSE_REVOKED;
            }
        }
    }
    if (hand->head) {
        u64 flying = with_hold(hand->head_was, STATE_IN_FLIGHT, holder);
        if (CAS(&hand->head->word, flying, with_hold(flying, STATE_HELD, to)) != flying) {
            if (hand->body)
                CAS(&hand->body->word, with_hold(hand->body_was, STATE_HELD, to), hand->body_back);
            return CAUSE_REVOKED;
        }
    }
    return -1;
}

/* Moves what a packet from replica to replica names. Gives -1, or why not, with everything as it was. */
static __attribute__((noinline)) int move(const struct packet *packet, const struct identity *from, struct hand_over *hand)
{
    u32 id = packet->edge;
    hand->counted = NONE;
    struct edge *edge = bpf_map_lookup_elem(&edges, &id);
    if (!edge)
        return CAUSE_EDGE;
    u64 epoch = READ(edge->counts) >> 32, ends = READ(edge->ends);
    if (!(epoch >> 31))
        return CAUSE_CLOSED;
    int is_caller = from->holder == (u16)ends && from->arena == (u16)(ends >> 32);
    int is_callee = from->holder == (u16)(ends >> 16) && from->arena == (u16)(ends >> 48);
    if (!is_caller && !is_callee)
        return CAUSE_ENDS;
    hand->counted = id;
    u8 kind = packet->kind;
    if (kind == KIND_REPLY ? !is_callee : !(is_caller && (kind == KIND_REQUEST || kind == KIND_CANCEL)))
        return CAUSE_KIND;
    if (!is_sane(packet))
        return CAUSE_FLAGS;
    int why = account(id, epoch, kind);
    if (why >= 0)
        return why;

    int is_reply = kind == KIND_REPLY;
    hand->epoch = epoch;
    hand->to = is_reply ? (u16)ends : (u16)(ends >> 16);
    hand->arena = is_reply ? (u16)(ends >> 32) : (u16)(ends >> 48);
    if (packet->body_handle != NONE)
        why = take_body(hand, packet, from);
    if (why < 0 && packet->head_handle != NONE)
        why = take_head(hand, packet, from);
    if (why >= 0) {
        give_back(hand, from->holder);
        account_back(id, epoch, kind);
        return why;
    }
    if (hand->body && packet->into == NONE)
        describe(hand->body, packet->body_handle, packet->body_offset, packet->body_len, packet->written, packet->invocation);
    if (hand->head)
        describe(hand->head, packet->head_handle, packet->head_offset, packet->head_len, (u64)packet->head_offset + packet->head_len, packet->invocation);
    why = land(hand, packet, from->holder, hand->to);
    if (why >= 0)
        account_back(id, epoch, kind);
    return why;
}

/* Takes back what was moved for a receiver that cannot be reached. */
INLINE void move_back(const struct packet *packet, const struct hand_over *hand)
{
    if (hand->body)
        CAS(&hand->body->word, with_hold(hand->body_was, STATE_HELD, hand->to), hand->body_back);
    if (hand->head)
        CAS(&hand->head->word, with_hold(hand->head_was, STATE_HELD, hand->to), hand->head_was);
    account_back(packet->edge, hand->epoch, packet->kind);
}

/* What the receiver believes is what is written here, at the packet itself: whatever its sender said of it, and did not have to say, is
 * overwritten. Counts it too.
 */
INLINE void stamp(struct packet *at, const struct packet *said, const struct hand_over *hand)
{
    at->rights = hand->body ? rights_of(hand->body_was) : 0;
    at->into = NONE;
    at->written = hand->body && said->into == NONE ? READ(hand->body->high_water) : 0;
    if (said->into != NONE) {
        at->body_handle = said->into;
        at->body_generation = generation_of(hand->body_was);
    }
    u32 id = said->edge;
    struct counters *counters = bpf_map_lookup_elem(&counts, &id);
    if (!counters)
        return;
    if (said->kind == KIND_REPLY)
        __sync_fetch_and_add(&counters->replies, 1);
    else if (said->kind == KIND_REQUEST)
        __sync_fetch_and_add(&counters->calls, 1);
    if (said->body_handle != NONE)
        __sync_fetch_and_add(&counters->bytes, said->body_len);
}

/* The packet at an offset that is known to be small, or 0 if it is not in the piece of the message that is the kernel's own. */
INLINE struct packet *packet_at(struct sk_msg_md *message, u32 offset)
{
    struct packet *at = message->data + offset;
    return (void *)(at + 1) > message->data_end ? 0 : at;
}

/* Packets in a row that go the same way: what was said of the first holds for `packets` of them. */
struct run {
    struct sk_msg_md *message;
    struct identity from;
    u32 edge;
    u16 packets;
    u16 is_reply;
};

/* Replica to replica: the first packet of a message. */
static __attribute__((noinline)) int send(struct sk_msg_md *message, const struct packet *packet, const struct identity *from)
{
    struct hand_over hand = {};
    int why = move(packet, from, &hand);
    if (why >= 0)
        return refuse(why, hand.counted);
    if (bpf_msg_redirect_map(message, &sockets, hand.arena, BPF_F_INGRESS) != SK_PASS) {
        move_back(packet, &hand);
        return refuse(CAUSE_GONE, hand.counted);
    }
    struct packet *at = packet_at(message, 0);
    if (at)
        stamp(at, packet, &hand);
    return SK_PASS;
}

/* Moves what the next packet of a run names, or ends the run: one that is refused here comes again, as the first of what is left, and
 * is refused, and counted, then.
 */
static long go_on(u32 index, struct run *run)
{
    if (index >= RUN_MAX)
        return 1;
    struct packet *at = packet_at(run->message, (index + 1) * PACKET_BYTES);
    if (!at)
        return 1;
    struct packet packet = *at;
    if (packet.op != OP_SEND || packet.edge != run->edge || (packet.kind == KIND_REPLY) != run->is_reply)
        return 1;
    struct hand_over hand = {};
    if (move(&packet, &run->from, &hand) >= 0)
        return 1;
    stamp(at, &packet, &hand);
    run->packets++;
    return 0;
}

/* What follows the first packet and goes the same way goes with it: to put something on a socket costs more than all that is looked at. */
INLINE void send_run(struct sk_msg_md *message, const struct packet *first, const struct identity *from)
{
    struct run run = {
        .message = message,
        .from = *from,
        .edge = first->edge,
        .packets = 1,
        .is_reply = first->kind == KIND_REPLY,
    };
    bpf_loop(message->size / PACKET_BYTES - 1, go_on, &run, 0);
    bpf_msg_apply_bytes(message, (u32)run.packets * PACKET_BYTES);
}

/* Ends a capability that was derived from what the sender has, or made itself. */
static __attribute__((noinline)) int revoke(const struct packet *packet, const struct identity *from)
{
    u32 first = SLOTS + from->arena * ARENA_ENTRIES;
    struct entry *above = entry_at(packet->head_handle), *entry = entry_at(packet->body_handle);
    if (!above || !entry || packet->body_handle < SLOTS)
        return CAUSE_HANDLE;
    u64 word = READ(above->word);
    if (generation_of(word) != packet->head_generation)
        return CAUSE_STALE;
    int is_own = packet->head_handle >= first && packet->head_handle - first < ARENA_ENTRIES;
    if (!is_own && !is_in_hands_of(word, from->holder))
        return CAUSE_HELD;
    if (packet->body_handle == packet->head_handle) {
        if (!is_own)
            return CAUSE_HELD;
    } else if (!descends(packet->body_handle, (u64)packet->head_handle << 32 | packet->head_generation)) {
        return CAUSE_HELD;
    }
    for (int i = 0; i < 32; i++) {
        word = READ(entry->word);
        u8 state = state_of(word);
        if (generation_of(word) != packet->body_generation)
            return CAUSE_STALE;
        if (state == STATE_FREE || state == STATE_RELEASED || state == STATE_REVOKED)
            return -1;
        if (CAS(&entry->word, word, with_hold(word, STATE_REVOKED, holder_of(word))) == word)
            return -1;
    }
    return CAUSE_RACE;
}

/* Leaves a root with no rights but some, and notes what of it is used. */
static __attribute__((noinline)) int restrict_to(const struct packet *packet, const struct identity *from)
{
    if (packet->body_handle >= SLOTS)
        return CAUSE_HANDLE;
    if (!ends_within(packet->body_offset, packet->body_len, packet->written))
        return CAUSE_RANGE;
    struct entry *root = entry_at(packet->body_handle);
    if (!root)
        return CAUSE_HANDLE;
    u64 was = 0;
    int why = seize(root, packet->body_generation, from->holder, 0, &was);
    if (why >= 0)
        return why;
    describe(root, packet->body_handle, packet->body_offset, packet->body_len, packet->written, packet->invocation);
    u64 flying = with_hold(was, STATE_IN_FLIGHT, from->holder);
    u64 narrowed = with_hold(was & ~(u64)(u8)~packet->rights, STATE_HELD, from->holder);
    return CAS(&root->word, flying, narrowed) == flying ? -1 : CAUSE_REVOKED;
}

/* Gives a derived capability up. */
static __attribute__((noinline)) int release(const struct packet *packet, const struct identity *from)
{
    struct entry *entry = entry_at(packet->body_handle);
    if (!entry || packet->body_handle < SLOTS)
        return CAUSE_HANDLE;
    u64 word = READ(entry->word);
    if (generation_of(word) != packet->body_generation)
        return CAUSE_STALE;
    if (state_of(word) == STATE_REVOKED)
        return CAUSE_REVOKED;
    if (state_of(word) != STATE_HELD || holder_of(word) != from->holder)
        return CAUSE_HELD;
    return CAS(&entry->word, word, with_hold(word, STATE_RELEASED, from->holder)) == word ? -1 : CAUSE_RACE;
}

/* Derives what the node is to get: on its way to it, so that whatever its sender does with the parent next comes later. */
static __attribute__((noinline)) int derive_for_node(const struct packet *packet, const struct identity *from)
{
    u64 flying = 0;
    int why = derive_said(packet, from, &flying);
    if (why >= 0)
        return why;
    struct entry *parent = entry_at(packet->body_handle), *child = entry_at(packet->into);
    if (!parent || !child)
        return CAUSE_HANDLE;
    u64 made = with_hold(flying, STATE_TO_NODE, from->holder);
    if (CAS(&child->word, flying, made) != flying)
        return CAUSE_REVOKED;
    /* As in `land`: the child first, then a look at the parent. */
    u64 word = READ(parent->word);
    if (generation_of(word) != packet->body_generation || !is_in_hands_of(word, from->holder)) {
        CAS(&child->word, made, with_hold(made, STATE_REVOKED, from->holder));
        return CAUSE_REVOKED;
    }
    return -1;
}

/* To the sender's own socket: the message arrives when it is done. */
INLINE int to_oneself(struct sk_msg_md *message, const struct packet *packet, const struct identity *from)
{
    int why = -1;
    if (packet->op == OP_REVOKE)
        why = revoke(packet, from);
    else if (packet->op == OP_RESTRICT)
        why = restrict_to(packet, from);
    else if (packet->op == OP_RELEASE)
        why = release(packet, from);
    else if (packet->op == OP_DERIVE)
        why = derive_for_node(packet, from);
    if (why < 0 && bpf_msg_redirect_map(message, &sockets, from->arena, BPF_F_INGRESS) != SK_PASS)
        why = CAUSE_GONE;
    return why < 0 ? SK_PASS : refuse(why, NONE);
}

/* The first packet of a message, in one piece that is the kernel's own, or 0. */
INLINE struct packet *first_of(struct sk_msg_md *message)
{
    if (message->size < PACKET_BYTES)
        return 0;
    struct packet *at = message->data;
    if ((void *)(at + 1) > message->data_end) {
        /* In pieces, or in pages that are the sender's. */
        if (bpf_msg_pull_data(message, 0, PACKET_BYTES, 0))
            return 0;
        at = message->data;
        if ((void *)(at + 1) > message->data_end)
            return 0;
    }
    return at;
}

/* Gives SK_PASS if the first packet of a message is on its way to a replica. */
static __attribute__((noinline)) int judge(struct sk_msg_md *message, const struct identity *from)
{
    struct packet *at = first_of(message);
    if (!at)
        return refuse(CAUSE_SIZE, NONE);
    struct packet packet = *at;
    if ((packet.op < OP_SEND || packet.op > OP_RELEASE) && packet.op != OP_DERIVE)
        return refuse(CAUSE_OP, NONE);
    /* Who does not read may not write: nothing else bounds what waits at a socket whose own messages, or a friend's, go there. */
    struct sock *self = bpf_skc_to_tcp_sock(message->sk);
    if (!self || self->sk_backlog.rmem_alloc.counter > UNREAD_MAX)
        return refuse(CAUSE_UNREAD, NONE);
    if (packet.op != OP_SEND)
        return to_oneself(message, &packet, from);
    int verdict = send(message, &packet, from);
    if (verdict == SK_PASS && message->size >= 2 * PACKET_BYTES)
        send_run(message, &packet, from);
    return verdict;
}

/* The node to a replica, one packet in a message. What cannot be put there goes to the other end of the node's own socket. */
INLINE int from_node(struct sk_msg_md *message)
{
    struct packet *packet = first_of(message);
    if (!packet || message->size != PACKET_BYTES)
        refuse(CAUSE_SIZE, NONE);
    else if (packet->op != OP_NODE_WAKE && packet->op != OP_REFUSED)
        refuse(CAUSE_OP, NONE);
    else if (bpf_msg_redirect_map(message, &sockets, packet->into, BPF_F_INGRESS) != SK_PASS)
        refuse(CAUSE_GONE, NONE);
    return SK_PASS;
}

SEC("sk_msg") int handover(struct sk_msg_md *message)
{
    struct identity *kept = bpf_sk_storage_get(&identities, message->sk, 0, 0);
    if (!kept) {
        /* Whoever this was, it is none of the app's any more. */
        refuse(CAUSE_IDENTITY, NONE);
        return SK_DROP;
    }
    struct identity from = *kept;
    if (from.arena == NODE_ARENA)
        return from_node(message);
    /* What is said of the first packet is said of it alone, or of the piece that is there, unless it is the first of a run: what follows
     * comes here by itself. The bytes are counted exactly, because a verdict holds, over the next message too, until they are through. */
    u32 size = message->size;
    bpf_msg_apply_bytes(message, size < PACKET_BYTES ? size : PACKET_BYTES);
    if (judge(message, &from) == SK_PASS)
        return SK_PASS;
    /* The kernel remembers where the last packet of the same message was put, and "pass" would put this one there too. So it is told
     * where to: on from the sender's own socket, which waits if its other end is full. A sender that has just left has no way any more. */
    return bpf_msg_redirect_map(message, &sockets, from.arena, 0) == SK_PASS ? SK_PASS : SK_DROP;
}

INLINE int write_entry(const struct order *order)
{
    struct entry *entry = entry_at(order->index);
    if (!entry)
        return NOT_WRITTEN;
    u64 was = order->was, now = order->now.word;
    if (!order->is_whole)
        return CAS(&entry->word, was, now) == was ? WRITTEN : NOT_WRITTEN;
    u64 writing = with_hold(was, STATE_IN_FLIGHT, NODE);
    if (CAS(&entry->word, was, writing) != was)
        return NOT_WRITTEN;
    WRITE(entry->offset, order->now.offset);
    WRITE(entry->len, order->now.len);
    WRITE(entry->expiry_ns, order->now.expiry_ns);
    WRITE(entry->parent, order->now.parent);
    WRITE(entry->slot, order->now.slot);
    WRITE(entry->slot_generation, order->now.slot_generation);
    WRITE(entry->invocation, order->now.invocation);
    WRITE(entry->high_water, order->now.high_water);
    return CAS(&entry->word, writing, now) == writing ? WRITTEN : NOT_WRITTEN;
}

/* The node's pen: never attached to anything, but run by the node, with an order in the place of a trace point's arguments. The table is
 * frozen: no process can map it writable, or write it by a system call, whatever descriptor of it came into its hands.
 */
SEC("raw_tp") int scribe(const struct order *order)
{
    return write_entry(order);
}

GLOBAL int carry_out(u32 index)
{
    u32 zero = 0;
    struct orders *all = bpf_map_lookup_elem(&orders, &zero);
    return all && index < ORDERS ? write_entry(&all->of[index]) : NOT_WRITTEN;
}

/* The same with the first `count` orders of a map that the node alone has. Gives how many were carried out, up to the first that was not. */
SEC("raw_tp") int scribe_all(const u64 *count)
{
    u64 wanted = *count;
    u32 done = 0;
    for (; done < ORDERS && done < wanted; done++) {
        if (carry_out(done) != WRITTEN)
            break;
    }
    return done;
}

char _license[] SEC("license") = "Dual MIT/GPL";

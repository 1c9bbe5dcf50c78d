/* Layouts and numbers that the program shares with the rest of the house. They are pinned twice: here against each other, and by
 * the test `the_programs_numbers_are_the_houses` against `baton-abi` and the crate's own constants, which reads this file: a
 * definition is one line, `#define NAME number`.
 */
#ifndef BATON_HANDOVER_H
#define BATON_HANDOVER_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* Packets: crates/abi/src/packet.rs */
#define PACKET_BYTES 80
#define CREDITS 256
#define OP_SEND 1
#define OP_WAKE 2
#define OP_REVOKE 3
#define OP_RESTRICT 4
#define OP_RELEASE 5
#define OP_NODE_WAKE 6
#define OP_REFUSED 7
#define OP_DERIVE 8

/* Descriptors: crates/abi/src/descriptor.rs */
#define NONE 0xffffffff
#define KIND_REQUEST 1
#define KIND_REPLY 2
#define KIND_CANCEL 9
#define FLAG_LEND 1
#define FLAG_SHARE 2
#define FLAG_RECORD 4
#define FLAG_ERROR 8
#define FLAG_INLINE 16
#define FLAG_REFUSED 32
#define INLINE_MAX 8

/* Rights: crates/abi/src/rights.rs */
#define RIGHT_READ 1
#define RIGHT_WRITE 2
#define RIGHT_PASS 4

/* The capability table: crates/pool/src/capability/entry.rs */
#define STATE_FREE 0
#define STATE_STASHED 1
#define STATE_HELD 2
#define STATE_IN_FLIGHT 3
#define STATE_TO_NODE 4
#define STATE_RELEASED 6
#define STATE_REVOKED 7
#define NO_PARENT 0xffffffffffffffff
#define DEPTH_MAX 16
#define ARENA_ENTRIES 1024
#define NODE 0

/* This crate's own: src/plane.rs, src/cause.rs */
#define NODE_ARENA 0xffff
#define UNREAD_MAX 1048576
#define RUN_MAX 64
#define WRITTEN 2
#define NOT_WRITTEN 1
#define ORDERS 64
#define CAUSES 22
#define CAUSE_SIZE 0
#define CAUSE_IDENTITY 1
#define CAUSE_UNREAD 2
#define CAUSE_OP 3
#define CAUSE_EDGE 4
#define CAUSE_CLOSED 5
#define CAUSE_ENDS 6
#define CAUSE_KIND 7
#define CAUSE_CREDIT 8
#define CAUSE_REPLY 9
#define CAUSE_CANCEL 10
#define CAUSE_HANDLE 11
#define CAUSE_STALE 12
#define CAUSE_HELD 13
#define CAUSE_RIGHTS 14
#define CAUSE_RANGE 15
#define CAUSE_INTO 16
#define CAUSE_DEPTH 17
#define CAUSE_REVOKED 18
#define CAUSE_RACE 19
#define CAUSE_GONE 20
#define CAUSE_FLAGS 21

struct packet {
    u8 op;
    u8 rights;
    u16 edge;
    u32 into;
    u64 written;
    u8 kind;
    u8 flags;
    u16 code;
    u32 tag;
    u64 invocation;
    u64 deadline_ns;
    u32 body_handle;
    u32 body_generation;
    u64 body_offset;
    u64 body_len;
    u32 head_handle;
    u32 head_generation;
    u32 head_offset;
    u32 head_len;
};

/* word = generation 32 | holder 16 | state 8 | rights 8; parent = index 32 | generation 32 */
struct entry {
    u64 word;
    u64 offset;
    u64 len;
    u64 expiry_ns;
    u64 parent;
    u32 slot;
    u32 slot_generation;
    u64 invocation;
    u64 high_water;
};

/* counts = open 1 | epoch 31 | cancels left 16 | outstanding 16; ends = callee's arena 16, caller's, callee's holder, caller's */
struct edge {
    u64 counts;
    u64 ends;
};

/* What the node writes into the table: it too cannot write it but by a program. */
struct order {
    u32 index;
    /* Whether the whole entry changes, or its word alone. */
    u32 is_whole;
    /* The word as it must be. */
    u64 was;
    struct entry now;
};

struct orders {
    struct order of[ORDERS];
};

/* Kept with a socket by the kernel itself. */
struct identity {
    u16 holder;
    u16 arena;
    u32 padding;
};

struct counters {
    u64 calls;
    u64 replies;
    u64 bytes;
    u64 refusals;
};

#define AT(type, field, offset) _Static_assert(__builtin_offsetof(struct type, field) == offset, #type "." #field)

_Static_assert(sizeof(struct packet) == PACKET_BYTES, "packet");
AT(packet, edge, 2);
AT(packet, into, 4);
AT(packet, written, 8);
AT(packet, kind, 16);
AT(packet, flags, 17);
AT(packet, tag, 20);
AT(packet, deadline_ns, 32);
AT(packet, body_handle, 40);
AT(packet, body_offset, 48);
AT(packet, body_len, 56);
AT(packet, head_handle, 64);
AT(packet, head_offset, 72);
AT(packet, head_len, 76);
_Static_assert(sizeof(struct entry) == 64, "entry");
AT(entry, offset, 8);
AT(entry, len, 16);
AT(entry, expiry_ns, 24);
AT(entry, parent, 32);
AT(entry, slot, 40);
AT(entry, slot_generation, 44);
AT(entry, invocation, 48);
AT(entry, high_water, 56);
_Static_assert(sizeof(struct order) == 80, "order");
AT(order, was, 8);
AT(order, now, 16);
_Static_assert(sizeof(struct edge) == 16, "edge");
_Static_assert(sizeof(struct identity) == 8, "identity");
_Static_assert(sizeof(struct counters) == 32, "counters");

#endif

/* Counts, and drops where it is told to, what goes to ports that were not declared, on the loopback device of a network that is one
 * replica's own. A packet is of a declared port if it goes there, or comes from there.
 */
#include "kernel.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define PROTOCOL_IPV4 0x0008
#define PROTOCOL_IPV6 0xdd86
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ICMPV6 58
#define ETHERNET_BYTES 14
#define IPV6_BYTES 40
/* A fragment that is not the first has no ports. */
#define FRAGMENT_OFFSET 0x1fff
#define NEXT -1
#define DROP 2

/* src/ports.rs: */
#define PORTS_NAMED 16
#define PORT_WORDS 1024
#define PASSED 0
#define UNDECLARED 1
#define TOTALS 2
/* The port of what has none. */
#define NO_PORT 0

/* The context, as linux/bpf.h has it. */
struct __sk_buff {
    u32 len;
    u32 pkt_type;
    u32 mark;
    u32 queue_mapping;
    u32 protocol;
};

struct traffic {
    u64 packets;
    u64 bytes;
};
_Static_assert(sizeof(struct traffic) == 16, "traffic");

/* A bit for each port. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, PORT_WORDS);
    __type(key, u32);
    __type(value, u64);
} declared SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, TOTALS);
    __type(key, u32);
    __type(value, struct traffic);
} totals SEC(".maps");

/* The first ports that were not declared. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, PORTS_NAMED);
    __type(key, u32);
    __type(value, struct traffic);
} named SEC(".maps");

/* Set when the program is loaded. */
const volatile u32 DROPS = 0;

static long (*bpf_skb_load_bytes)(void *frame, u32 offset, void *to, u32 len) = (void *)26;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;

INLINE void add(struct traffic *to, u32 bytes)
{
    __sync_fetch_and_add(&to->packets, 1);
    __sync_fetch_and_add(&to->bytes, bytes);
}

INLINE void count(u32 which, u32 bytes)
{
    struct traffic *total = bpf_map_lookup_elem(&totals, &which);
    if (total)
        add(total, bytes);
}

INLINE int is_declared(u16 port)
{
    u32 word = port >> 6;
    u64 *bits = bpf_map_lookup_elem(&declared, &word);
    return bits && *bits >> (port & 63) & 1;
}

/* Notes what belongs to no declared port. */
INLINE int undeclared(struct __sk_buff *frame, u32 port)
{
    count(UNDECLARED, frame->len);
    struct traffic *known = bpf_map_lookup_elem(&named, &port);
    if (!known) {
        struct traffic none = {};
        /* Another core may be first, and later ports find no room: both are fine. */
        bpf_map_update_elem(&named, &port, &none, 1);
        known = bpf_map_lookup_elem(&named, &port);
    }
    if (known)
        add(known, frame->len);
    return DROPS ? DROP : NEXT;
}

INLINE int passed(struct __sk_buff *frame)
{
    count(PASSED, frame->len);
    return NEXT;
}

SEC("classifier") int ports(struct __sk_buff *frame)
{
    u8 protocol;
    u32 at;
    if (frame->protocol == PROTOCOL_IPV4) {
        u8 head[10];
        if (bpf_skb_load_bytes(frame, ETHERNET_BYTES, head, sizeof(head)))
            return undeclared(frame, NO_PORT);
        protocol = head[9];
        at = ETHERNET_BYTES + (head[0] & 15) * 4;
        if (((u16)head[6] << 8 | head[7]) & FRAGMENT_OFFSET)
            return undeclared(frame, NO_PORT);
    } else if (frame->protocol == PROTOCOL_IPV6) {
        if (bpf_skb_load_bytes(frame, ETHERNET_BYTES + 6, &protocol, 1))
            return undeclared(frame, NO_PORT);
        at = ETHERNET_BYTES + IPV6_BYTES;
    } else {
        return passed(frame);
    }
    if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
        return passed(frame);
    u8 ends[4];
    if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || bpf_skb_load_bytes(frame, at, ends, sizeof(ends)))
        return undeclared(frame, NO_PORT);
    u16 from = (u16)ends[0] << 8 | ends[1], to = (u16)ends[2] << 8 | ends[3];
    if (is_declared(to) || is_declared(from))
        return passed(frame);
    /* Whoever asks has a high port, whoever answers the lower one. */
    return undeclared(frame, from < to ? from : to);
}

char _license[] SEC("license") = "Dual MIT/GPL";

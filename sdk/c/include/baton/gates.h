/* Gates as functions, events as they come: the lower layer of the SDK for C. Functions are written with <baton.h>.
 *
 * Header only. In a compartment gates are addresses in a page that the auxiliary vector names; in a Wasm module all of them
 * are one imported function, and events come by exports instead of baton_recv(). Layouts and numbers are those of
 * crates/abi/src/gate.rs and crates/abi/src/wasm.rs. Results are 0 or more, or a negative number of BATON_E….
 */
#ifndef BATON_GATES_H
#define BATON_GATES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifndef __wasm__
#include <sys/auxv.h>
#endif

#define BATON_ABI_VERSION 4u
#define BATON_MAGIC 0x42544e67u
#define BATON_AT 0x42544e00ul
#define BATON_NONE 0xffffffffu

/* Kinds of events. */
enum { BATON_REQUEST = 1, BATON_REPLY = 2, BATON_FREE = 4, BATON_SHUTDOWN = 8, BATON_CANCEL = 9 };
/* Flags of a parcel. */
enum { BATON_LEND = 1, BATON_SHARE = 2, BATON_ERROR = 8, BATON_INLINE = 16, BATON_BYTES = 64 };
/* Gates. */
enum {
    BATON_GATE_RECV, BATON_GATE_REPLY, BATON_GATE_CALL, BATON_GATE_ALLOC, BATON_GATE_FREE, BATON_GATE_FREEZE,
    BATON_GATE_REVOKE, BATON_GATE_NARROW, BATON_GATE_CANCEL, BATON_GATE_WAIT, BATON_GATE_LOG, BATON_GATE_CLOCK,
    BATON_GATE_RANDOM, BATON_GATES
};
/* The result of a call that is not answered yet. */
#define BATON_PENDING 1
/* Rights of a payload. */
enum { BATON_READ = 1, BATON_WRITE = 2, BATON_PASS = 4 };
/* Why a gate refuses, with a minus in front: Linux' numbers, which the C library of a module does not have. */
enum {
    BATON_EPERM = 1, BATON_ENOENT = 2, BATON_EAGAIN = 11, BATON_ENOMEM = 12, BATON_EACCES = 13, BATON_EFAULT = 14, BATON_EBUSY = 16, BATON_EINVAL = 22,
    BATON_ENOSPC = 28, BATON_ENOSYS = 38, BATON_ELOOP = 40, BATON_ENOBUFS = 105, BATON_ETIMEDOUT = 110, BATON_EHOSTUNREACH = 113,
    BATON_ESTALE = 116
};

typedef int64_t (*baton_gate)(uint64_t, uint64_t, uint64_t);

typedef struct {
    uint32_t magic, abi_version;
    uint64_t gates[32];
    uint64_t incarnation;
} baton_page;

/* A message: 64 bytes of descriptor, where its buffers are mapped, and a payload of 9 to 64 bytes that needs no buffer. */
typedef struct {
    uint8_t kind, flags;
    uint16_t code;
    uint32_t tag;
    uint64_t invocation, deadline_ns;
    uint32_t body_handle, body_generation;
    uint64_t body_offset, body_len;
    uint32_t head_handle, head_generation, head_offset, head_len;
    uint64_t body_base, body_capacity, head_base, head_capacity;
    uint32_t rights, from;
    uint64_t kept_at, reserved[2];
    uint8_t small[64];
} __attribute__((aligned(64))) baton_event;

typedef struct { uint32_t handle, generation; } baton_pair;
typedef struct { uint32_t handle, generation; uint64_t base, capacity; } baton_grant;

_Static_assert(sizeof(baton_page) == 272 && offsetof(baton_page, gates) == 8, "the gate page's layout");
_Static_assert(offsetof(baton_page, incarnation) == 264, "the gate page's layout");
_Static_assert(sizeof(baton_event) == 192 && _Alignof(baton_event) == 64, "the parcel's layout");
_Static_assert(offsetof(baton_event, code) == 2 && offsetof(baton_event, tag) == 4, "the descriptor's layout");
_Static_assert(offsetof(baton_event, invocation) == 8 && offsetof(baton_event, deadline_ns) == 16, "the descriptor's layout");
_Static_assert(offsetof(baton_event, body_handle) == 24 && offsetof(baton_event, body_offset) == 32, "the descriptor's layout");
_Static_assert(offsetof(baton_event, body_len) == 40 && offsetof(baton_event, head_handle) == 48, "the descriptor's layout");
_Static_assert(offsetof(baton_event, head_offset) == 56 && offsetof(baton_event, head_len) == 60, "the descriptor's layout");
_Static_assert(offsetof(baton_event, body_base) == 64 && offsetof(baton_event, rights) == 96, "the parcel's layout");
_Static_assert(offsetof(baton_event, kept_at) == 104 && offsetof(baton_event, small) == 128, "the parcel's layout");
_Static_assert(sizeof(baton_pair) == 8 && sizeof(baton_grant) == 24, "the grant's layout");
_Static_assert(offsetof(baton_grant, base) == 8 && BATON_GATES == 13, "the grant's layout, and the gates' numbers");

/* An address as gates take it: an offset, in a module. */
static inline uint64_t baton_address(const volatile void *of) { return (uint64_t)(uintptr_t)of; }

#ifdef __wasm__

__attribute__((import_module("baton"), import_name("gate")))
extern int64_t baton_imported_gate(int32_t number, int64_t a, int64_t b, int64_t c);

/* A module has its gates from the start. */
static inline int baton_open(void) { return 0; }

/* Any gate. */
static inline int64_t baton_call_gate(unsigned number, uint64_t a, uint64_t b, uint64_t c) {
    return baton_imported_gate((int32_t)number, (int64_t)a, (int64_t)b, (int64_t)c);
}

#else

/* One for all files of a program. */
__attribute__((weak)) const volatile baton_page *baton_gate_page;

#ifdef BATON_LINK
/* Of libbaton: the gates of a process, over its link. */
const baton_page *baton_link_page(void);
#endif

/* Finds the gates. 0, or -1 if this program was not started by a node: in a compartment, or with BATON_LINK in a process. */
static inline int baton_open(void) {
    const baton_page *page = (const baton_page *)getauxval(BATON_AT);
#ifdef BATON_LINK
    if (page == NULL) page = baton_link_page();
#endif
    if (page == NULL || page->magic != BATON_MAGIC || page->abi_version != BATON_ABI_VERSION) return -1;
    baton_gate_page = page;
    return 0;
}

/* Any gate. Addresses differ between cells: they are read anew for each call. */
static inline int64_t baton_call_gate(unsigned number, uint64_t a, uint64_t b, uint64_t c) {
    return ((baton_gate)baton_gate_page->gates[number])(a, b, c);
}

/* Waits for the next event; gives its kind, or a negative errno. */
static inline int64_t baton_recv(baton_event *event) {
    int64_t got = baton_call_gate(BATON_GATE_RECV, 0, baton_address(event), 0);
    return got < 0 ? got : event->kind;
}

#endif

/* The payload of an event, in place. */
static inline const void *baton_event_body(const baton_event *event) {
    if (event->flags & BATON_INLINE)
        return event->body_len > 8 ? (const void *)event->small : (const void *)&event->body_offset;
    return event->body_handle == BATON_NONE ? NULL : (const void *)(uintptr_t)(event->body_base + event->body_offset);
}

/* Gives back what an event brought. Answers that move it on do that by themselves. */
static inline void baton_event_drop(const baton_event *event) {
    baton_pair pairs[2];
    unsigned count = 0;
    if (!(event->flags & BATON_INLINE) && event->body_handle != BATON_NONE)
        pairs[count++] = (baton_pair){event->body_handle, event->body_generation};
    if (event->head_handle != BATON_NONE && event->head_handle != event->body_handle)
        pairs[count++] = (baton_pair){event->head_handle, event->head_generation};
    if (count > 0) baton_call_gate(BATON_GATE_FREE, baton_address(pairs), count, 0);
}

/* An empty parcel about the same request. */
static inline baton_event baton_event_blank(const baton_event *about, uint16_t code) {
    baton_event out;
    memset(&out, 0, sizeof out);
    out.tag = about->tag;
    out.code = code;
    out.body_handle = out.head_handle = BATON_NONE;
    return out;
}

/* Answers a request with bytes of one's own, which are copied; gives back what the request brought. */
static inline int64_t baton_event_reply_bytes(const baton_event *request, uint16_t status, const void *bytes, size_t len) {
    baton_event out = baton_event_blank(request, status);
    out.kind = BATON_REPLY;
    out.flags = BATON_BYTES;
    out.body_offset = baton_address(bytes);
    out.body_len = len;
    baton_event_drop(request);
    return baton_call_gate(BATON_GATE_REPLY, baton_address(&out), 0, 0);
}

/* Answers a request with its own payload: it moves on, and no byte is copied. */
static inline int64_t baton_event_reply_same(const baton_event *request, uint16_t status) {
    baton_event out = *request;
    out.kind = BATON_REPLY;
    out.code = status;
    out.flags &= BATON_INLINE;
    out.head_handle = BATON_NONE;
    if (request->head_handle != BATON_NONE && request->head_handle != request->body_handle) {
        baton_event head = *request;
        head.body_handle = BATON_NONE;
        baton_event_drop(&head);
    }
    return baton_call_gate(BATON_GATE_REPLY, baton_address(&out), 0, 0);
}

/* Calls function number `callee` of this function's `calls`, on behalf of `request`, with bytes of one's own, and waits for
 * the answer. 0, or a negative errno. Give the answer back with baton_event_drop(). */
static inline int64_t baton_event_call_bytes(const baton_event *request, unsigned callee, const void *bytes, size_t len,
                                       baton_event *answer) {
    *answer = baton_event_blank(request, 0);
    answer->kind = BATON_REQUEST;
    answer->flags = BATON_BYTES;
    answer->body_offset = baton_address(bytes);
    answer->body_len = len;
    int64_t called = baton_call_gate(BATON_GATE_CALL, callee, baton_address(answer), 0);
    if (called != BATON_PENDING) return called;
    return baton_call_gate(BATON_GATE_WAIT, answer->tag, baton_address(answer), 0);
}

/* A line in the function's log. `level`: 'E', 'W', 'I' or 'D'. */
static inline void baton_log(char level, const char *text) {
    baton_call_gate(BATON_GATE_LOG, (unsigned char)level, baton_address(text), strlen(text));
}

#endif

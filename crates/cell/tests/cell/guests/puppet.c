/* Does through its gates what scripts say, and keeps a record of what came of it. See tests/cell/model/script.rs.
 *
 * Operations of requests: 0xff00 brings the scripts, 0xff01 asks for the record, 0xff02 is answered with nothing; anything
 * else is the number of the script to run. */
#include <baton/gates.h>

enum { LOAD = 0xff00, FETCH = 0xff01, SYNC = 0xff02 };
enum { ENTRIES = 1024, RECORDS = 4096, PROGRAM = 1 << 20, NOBODY = 0xffff };

enum kind {
    ALLOC = 1, FILL, READ, FREE, FREEZE, NARROW, REVOKE, CALL, WAIT, CANCEL, REPLY, BAD,
    /* Records only. */
    REQUEST = 20, ANSWER, EVENT, GRANT
};
/* What a body is. */
enum { NO_BODY, INLINE_BODY, STATIC_BODY, BYTES_BODY, MOVE_BODY, LEND_BODY, SHARE_BODY };

/* A part of an entry's payload: from and length in thousandths of it; `beyond` makes it too long. */
typedef struct { uint16_t entry, from, len, beyond; } part;

typedef struct {
    uint8_t kind, body;
    uint16_t code, callee, argument;
    part part, head;
    uint64_t value;
    uint64_t pad;
} op;
_Static_assert(sizeof(op) == 40, "the layout of script.rs");

typedef struct { uint32_t handle, generation; uint64_t base, offset, len; } entry;
typedef struct { uint64_t words[8]; } record;

static entry table[ENTRIES];
static unsigned entries;
static uint32_t tags[ENTRIES];
static unsigned tag_count;
static record records[RECORDS];
static unsigned record_count;
static uint8_t program[PROGRAM];
static uint64_t program_len;
static uint8_t pattern[70000];

static record *note(uint64_t kind, uint64_t result) {
    static record spill;
    record *at = record_count < RECORDS ? &records[record_count++] : &spill;
    memset(at, 0, sizeof *at);
    at->words[0] = kind;
    at->words[1] = result;
    return at;
}

static uint64_t sum_of(const volatile uint8_t *bytes, uint64_t len) {
    uint64_t sum = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < len; i += i < 1024 ? 1 : 61) sum = (sum ^ bytes[i]) * 0x100000001b3u;
    return len ? (sum ^ bytes[len - 1]) * 0x100000001b3u : sum;
}

/* A buffer of its own that a guest has given up may come back to it under the same name: the entry forgets it. */
static void forget(part which) {
    if (which.entry < entries && table[which.entry].handle < 0x40000000) table[which.entry].handle = 0x3ffffff0;
}

/* A handle that comes back to this guest is the new entry's: older ones of the same name count as given up. */
static void add(uint32_t handle, uint32_t generation, uint64_t base, uint64_t offset, uint64_t len) {
    for (unsigned i = 0; i < entries; i++)
        if (table[i].handle == handle && table[i].generation == generation) table[i].handle = 0x3ffffff0;
    if (entries < ENTRIES) table[entries++] = (entry){handle, generation, base, offset, len};
}

/* One that never was. */
static const entry nothing = {0x3ffffff0, 7, 64, 0, 64};

static entry get(part which) { return which.entry < entries ? table[which.entry] : nothing; }

static void cut(part which, uint64_t *offset, uint64_t *len) {
    entry of = get(which);
    uint64_t from = of.len * which.from / 1000, most = of.len - from, want = of.len * which.len / 1000;
    *offset = of.offset + from;
    *len = (want < most ? want : most) + (which.beyond ? 1u << 30 : 0);
}

/* Whether what was lent or shared is still there: it may have been taken away again on its way. */
static int is_there(const baton_event *event) {
    baton_pair pair = {event->body_handle, event->body_generation};
    if (pair.handle < 0x40000000 || pair.handle >= 0x80000000) return 1;
    return baton_call_gate(BATON_GATE_NARROW, (uint64_t)&pair, event->body_offset, event->body_len) == 0;
}

/* Takes in what a parcel brought, and says so. */
static void take(uint64_t kind, uint64_t result, const baton_event *event) {
    record *note_of = note(kind, result);
    uint64_t *words = note_of->words;
    int is_inline = event->flags & BATON_INLINE;
    words[2] = event->code | (uint64_t)event->flags << 16 | (uint64_t)event->kind << 24;
    words[3] = event->body_len;
    words[4] = ~0ull;
    words[6] = ~0ull;
    if (is_inline) {
        words[4] = event->body_len > 8 ? sum_of(baton_event_body(event), event->body_len) : event->body_offset;
    } else if (event->body_handle != BATON_NONE) {
        words[2] |= (uint64_t)event->rights << 32;
        if (!is_there(event)) words[4] = ~1ull;
        else if (event->rights & 1) words[4] = sum_of(baton_event_body(event), event->body_len);
        add(event->body_handle, event->body_generation, event->body_base, event->body_offset, event->body_len);
    }
    if (event->head_handle != BATON_NONE) {
        words[6] = event->head_len;
        words[5] = sum_of((const uint8_t *)event->head_base + event->head_offset, event->head_len);
        if (is_inline || event->head_handle != event->body_handle)
            add(event->head_handle, event->head_generation, event->head_base, event->head_offset, event->head_len);
    }
}

/* What a parcel carries, as an operation says. */
static void fill(baton_event *out, const op *of) {
    uint64_t from, len;
    cut(of->part, &from, &len);
    entry body = get(of->part);
    switch (of->body) {
    case INLINE_BODY:
        out->flags = BATON_INLINE;
        out->body_offset = of->value;
        out->body_len = of->argument % 80;
        for (unsigned at = 0; at < sizeof out->small; at += 8) memcpy(out->small + at, &of->value, 8);
        break;
    case STATIC_BODY:
        out->flags = BATON_BYTES;
        memset(pattern, (int)of->value, of->part.from);
        out->body_offset = (uint64_t)pattern;
        out->body_len = of->part.from;
        break;
    case BYTES_BODY:
        out->flags = BATON_BYTES;
        out->body_offset = body.base + from;
        out->body_len = len;
        break;
    case MOVE_BODY:
    case LEND_BODY:
    case SHARE_BODY:
        out->flags = of->body == LEND_BODY ? BATON_LEND : of->body == SHARE_BODY ? BATON_SHARE : 0;
        out->body_handle = body.handle;
        out->body_generation = body.generation;
        out->body_offset = from;
        out->body_len = len;
        out->rights = (uint32_t)of->value;
        break;
    }
    if (of->head.entry == NOBODY) return;
    entry head = get(of->head);
    cut(of->head, &from, &len);
    out->head_handle = head.handle;
    out->head_generation = head.generation;
    out->head_offset = (uint32_t)from;
    out->head_len = (uint32_t)len;
}

static void alloc(const op *of) {
    baton_grant grants[4];
    unsigned count = of->argument & 3;
    int64_t got = baton_call_gate(BATON_GATE_ALLOC, of->value, count, (uint64_t)grants);
    note(ALLOC, (uint64_t)got);
    for (int64_t i = 0; i < got; i++) {
        record *granted = note(GRANT, grants[i].capacity);
        volatile uint8_t *bytes = (volatile uint8_t *)grants[i].base;
        /* Which bytes an earlier owner left: a set. */
        for (uint64_t k = 0; k < grants[i].capacity; k++) granted->words[2 + bytes[k] / 64] |= 1ull << bytes[k] % 64;
        memset((void *)grants[i].base, of->code, of->value);
        add(grants[i].handle, grants[i].generation, grants[i].base, 0, of->value);
    }
}

static void call(const op *of, uint32_t about) {
    static _Alignas(64) baton_event events[64];
    static unsigned depth;
    baton_event *event = &events[depth++ % 64];
    memset(event, 0, sizeof *event);
    event->kind = BATON_REQUEST;
    event->tag = about;
    event->code = of->code;
    event->body_handle = event->head_handle = BATON_NONE;
    fill(event, of);
    int64_t got = baton_call_gate(BATON_GATE_CALL, of->callee, (uint64_t)event, 0);
    depth--;
    if (got >= 0) {
        if (of->body == MOVE_BODY) forget(of->part);
        forget(of->head);
    }
    if (got == 0) {
        take(ANSWER, 0, event);
        return;
    }
    note(CALL, (uint64_t)got);
    if (got == BATON_PENDING && tag_count < ENTRIES) tags[tag_count++] = event->tag;
}

static void bad(const op *of) {
    static baton_event event;
    uint64_t at = of->value, got = 0;
    switch (of->argument) {
    case 0: got = (uint64_t)baton_call_gate(BATON_GATE_RECV, 0, at, 0); break;
    case 1: got = (uint64_t)baton_call_gate(BATON_GATE_REPLY, at, 0, 0); break;
    case 2: got = (uint64_t)baton_call_gate(BATON_GATE_CALL, 0, at, 0); break;
    case 3: got = (uint64_t)baton_call_gate(BATON_GATE_ALLOC, 64, 1, at); break;
    case 4: got = (uint64_t)baton_call_gate(BATON_GATE_FREE, at, 1, 0); break;
    case 5: got = (uint64_t)baton_call_gate(BATON_GATE_FREEZE, at, 0, 0); break;
    case 6: got = (uint64_t)baton_call_gate(BATON_GATE_REVOKE, at, 0, 0); break;
    case 7: got = (uint64_t)baton_call_gate(BATON_GATE_NARROW, at, 0, 0); break;
    case 8: got = (uint64_t)baton_call_gate(BATON_GATE_LOG, 'I', at, 4); break;
    case 9: got = (uint64_t)baton_call_gate(BATON_GATE_CLOCK, 1, at, 0); break;
    case 10: got = (uint64_t)baton_call_gate(BATON_GATE_RANDOM, at, 8, 0); break;
    case 11: got = (uint64_t)baton_call_gate(BATON_GATE_CALL, 99, (uint64_t)&event, 0); break;
    case 12: got = (uint64_t)baton_call_gate(BATON_GATE_WAIT, 0x7fff0001, at, 0); break;
    case 13:
        event.tag = 0x7fff0001;
        event.body_handle = event.head_handle = BATON_NONE;
        got = (uint64_t)baton_call_gate(BATON_GATE_REPLY, (uint64_t)&event, 0, 0);
        break;
    }
    note(BAD, got);
}

/* Whether the request in hand is answered. */
static int answered;

static void reply(const op *of, uint32_t tag) {
    baton_event out;
    memset(&out, 0, sizeof out);
    out.kind = BATON_REPLY;
    out.tag = tag;
    out.code = of->code;
    out.body_handle = out.head_handle = BATON_NONE;
    fill(&out, of);
    int64_t got = baton_call_gate(BATON_GATE_REPLY, (uint64_t)&out, 0, 0);
    note(REPLY, (uint64_t)got);
    if (got != 0) return;
    answered = 1;
    if (of->body == MOVE_BODY) forget(of->part);
    forget(of->head);
}

static void step(const op *of, uint32_t tag) {
    entry with = get(of->part);
    baton_pair pairs[2] = {{with.handle, with.generation}, {get(of->head).handle, get(of->head).generation}};
    uint64_t from, len, of_tag = of->argument < tag_count ? tags[of->argument] : 0x7fff0001;
    static baton_event event;
    cut(of->part, &from, &len);
    switch (of->kind) {
    case ALLOC: alloc(of); break;
    case FILL: memset((void *)(with.base + from), of->code, len); break;
    case READ: note(READ, sum_of((const uint8_t *)with.base + from, len)); break;
    case FREE: {
        unsigned count = of->head.entry == NOBODY ? 1 : 2;
        record *freed = note(FREE, (uint64_t)baton_call_gate(BATON_GATE_FREE, (uint64_t)pairs, count, 0));
        /* What was just given up is nobody's yet. */
        freed->words[2] = (uint64_t)baton_call_gate(BATON_GATE_FREE, (uint64_t)pairs, count, 0);
        forget(of->part);
        forget(of->head);
        break;
    }
    case FREEZE: note(FREEZE, (uint64_t)baton_call_gate(BATON_GATE_FREEZE, (uint64_t)pairs, 0, 0)); break;
    case REVOKE: note(REVOKE, (uint64_t)baton_call_gate(BATON_GATE_REVOKE, (uint64_t)pairs, 0, 0)); break;
    case NARROW: note(NARROW, (uint64_t)baton_call_gate(BATON_GATE_NARROW, (uint64_t)pairs, from, len)); break;
    case CALL: call(of, tag); break;
    case WAIT: {
        int64_t got = baton_call_gate(BATON_GATE_WAIT, of_tag, (uint64_t)&event, 0);
        if (got == 0) take(ANSWER, 1, &event);
        else note(WAIT, (uint64_t)got);
        break;
    }
    case CANCEL: note(CANCEL, (uint64_t)baton_call_gate(BATON_GATE_CANCEL, of_tag, 0, 0)); break;
    case REPLY: reply(of, tag); break;
    case BAD: bad(of); break;
    }
}

/* A program is one script behind the other: its number, how many operations, and those. */
static void run(uint16_t number, uint32_t tag) {
    for (uint64_t at = 0; at + 8 <= program_len;) {
        uint32_t head[2];
        memcpy(head, program + at, sizeof head);
        at += 8;
        for (uint32_t i = 0; i < head[1]; i++, at += sizeof(op)) {
            op next;
            memcpy(&next, program + at, sizeof next);
            if (head[0] == number) step(&next, tag);
        }
        if (head[0] == number) return;
    }
    note(99, number);
}

static void request(const baton_event *event) {
    switch (event->code) {
    case LOAD:
        program_len = event->body_len / 2 < PROGRAM ? event->body_len / 2 : PROGRAM;
        for (uint64_t i = 0; i < program_len; i++) {
            /* Half a byte each, so that what a buffer held of a program is told from what scripts write. */
            const uint8_t *halves = (const uint8_t *)baton_event_body(event) + 2 * i;
            program[i] = (uint8_t)((halves[0] & 15) << 4 | (halves[1] & 15));
        }
        baton_event_reply_bytes(event, 200, "", 0);
        return;
    case FETCH:
        baton_event_reply_bytes(event, 200, records, record_count * sizeof(record));
        return;
    case SYNC:
        baton_event_reply_bytes(event, 200, "", 0);
        return;
    }
    take(REQUEST, event->from != 0, event);
    answered = 0;
    run(event->code, event->tag);
    /* Scripts see to that: this is for those that went wrong. */
    if (!answered) reply(&(op){.code = 599, .body = INLINE_BODY, .head.entry = NOBODY}, event->tag);
}

int main(void) {
    static baton_event event;
    if (baton_open() != 0) return 2;
    for (;;) {
        int64_t kind = baton_recv(&event);
        baton_event copy = event;
        if (kind == BATON_REQUEST) request(&copy);
        else if (kind == BATON_REPLY) take(ANSWER, 2, &copy);
        else if (kind == BATON_CANCEL) note(EVENT, BATON_CANCEL);
        else return 4;
    }
}

/* Gates with arguments that lie, and with a processor in a state that no function has. */
#include "villain.h"

#include <math.h>

/* gate NUMBER A B C */
static void any(const order *o) {
    uint64_t number = o->words[0];
    say("%ld", gate((unsigned)number, o->words[1], o->words[2], o->words[3]));
}

/* where: own seat, a word that can be written, one that can only be read, code, the stack. */
static void where(const order *o) {
    static const uint64_t constant[16] = {1};
    say("%lx %lx %lx %lx %lx", own_seat(), (uint64_t)answer_text, (uint64_t)constant, (uint64_t)where,
        (uint64_t)__builtin_frame_address(0));
    (void)o;
}

static void fill(baton_event *parcel, const uint64_t *words) {
    parcel->flags = (uint8_t)words[0];
    parcel->body_handle = (uint32_t)words[1];
    parcel->body_generation = (uint32_t)words[2];
    parcel->body_offset = words[3];
    parcel->body_len = words[4];
    parcel->head_handle = words[5] == 0 ? BATON_NONE : (uint32_t)words[5];
    parcel->head_generation = (uint32_t)words[6];
    parcel->head_offset = (uint32_t)words[7];
    parcel->head_len = (uint32_t)words[8];
}

/* call FLAGS HANDLE GENERATION OFFSET LEN HEAD HEAD-GENERATION HEAD-OFFSET HEAD-LEN */
static void call(const order *o) {
    baton_event parcel = baton_event_blank(o->request, 0);
    fill(&parcel, o->words);
    int64_t called = gate(BATON_GATE_CALL, 0, (uint64_t)&parcel, 0);
    if (called == BATON_PENDING) called = gate(BATON_GATE_WAIT, parcel.tag, (uint64_t)&parcel, 0);
    const char *got = called == 0 ? baton_event_body(&parcel) : NULL;
    say("%ld %u %.*s", called, parcel.code, got != NULL ? (int)parcel.body_len : 0, got != NULL ? got : "");
}

/* reply, with the same words. What it comes to is in the log of the next request, if it succeeds. */
static void reply(const order *o) {
    baton_event parcel = baton_event_blank(o->request, 200);
    fill(&parcel, o->words);
    int64_t replied = gate(BATON_GATE_REPLY, (uint64_t)&parcel, 0, 0);
    if (replied == 0) event.tag = 0;
    say("%ld", replied);
}

/* tags COUNT: answers requests that it never got. */
static void tags(const order *o) {
    static const char text[] = "forged";
    int64_t hits = 0;
    for (uint32_t tag = 0; tag < o->words[0]; tag++)
        for (uint32_t generation = 0; generation < 4; generation++) {
            baton_event parcel = baton_event_blank(o->request, 200);
            parcel.tag = generation << 16 | tag;
            if (parcel.tag == o->request->tag) continue;
            parcel.flags = BATON_BYTES;
            parcel.body_offset = (uint64_t)text;
            parcel.body_len = sizeof text;
            hits += gate(BATON_GATE_REPLY, (uint64_t)&parcel, 0, 0) == 0;
        }
    say("%ld", hits);
}

/* Answers twice. */
static void twice(const order *o) {
    baton_event parcel = baton_event_blank(o->request, 200);
    parcel.flags = BATON_BYTES;
    parcel.body_offset = (uint64_t)"once";
    parcel.body_len = 4;
    int64_t first = gate(BATON_GATE_REPLY, (uint64_t)&parcel, 0, 0);
    int64_t second = gate(BATON_GATE_REPLY, (uint64_t)&parcel, 0, 0);
    event.tag = 0;
    say("%ld %ld", first, second);
    baton_log('I', answer_text);
}

/* receive AT: answers, and goes for its next event there. */
static void receive(const order *o) {
    say("going");
    baton_event_reply_bytes(o->request, 200, answer_text, answer_len);
    event.tag = 0;
    gate(BATON_GATE_RECV, 0, o->words[0], 0);
}

static void alloc(const order *o) {
    baton_grant grant = {0, 0, 0, 0};
    int64_t got = gate(BATON_GATE_ALLOC, o->words[0], o->words[1], (uint64_t)&grant);
    say("%ld %x %x %lx %lx", got, grant.handle, grant.generation, grant.base, grant.capacity);
}

/* pair GATE HANDLE GENERATION B C: a gate about a capability. */
static void pair(const order *o) {
    baton_pair it = {(uint32_t)o->words[1], (uint32_t)o->words[2]};
    say("%ld", gate((unsigned)o->words[0], (uint64_t)&it, o->words[3], o->words[4]));
}

/* handles: tries to give back everything that might be somebody's. */
static void handles(const order *o) {
    int64_t hits = 0;
    for (uint32_t kind = 0; kind < 4; kind++)
        for (uint32_t index = 0; index < o->words[0]; index++)
            for (uint32_t generation = 0; generation < 4; generation++) {
                baton_pair it = {kind << 30 | index, generation};
                /* What the request itself brought is one's own. */
                if (it.handle == o->request->body_handle && it.generation == o->request->body_generation) continue;
                hits += gate(BATON_GATE_FREE, (uint64_t)&it, 1, 0) == 0;
            }
    say("%ld", hits);
}

/* alias KIND: parcels that lie where the gate is about to write. */
static void alias(const order *o) {
    baton_grant grant;
    if (gate(BATON_GATE_ALLOC, 4096, 1, (uint64_t)&grant) != 1) {
        say("no buffer");
        return;
    }
    baton_event *inside = (baton_event *)grant.base;
    baton_event parcel = baton_event_blank(o->request, 0);
    parcel.body_handle = grant.handle;
    parcel.body_generation = grant.generation;
    parcel.body_len = 4096;
    int64_t called = 0;
    switch (o->words[0]) {
    case 0: /* in the payload that it sends */
        *inside = parcel;
        called = gate(BATON_GATE_CALL, 0, (uint64_t)inside, 0);
        break;
    case 1: /* the answer on the stack that is in use */
        parcel.flags = BATON_BYTES;
        parcel.body_offset = (uint64_t)"ping";
        parcel.body_len = 4;
        memcpy(__builtin_frame_address(0), &parcel, sizeof parcel);
        called = gate(BATON_GATE_CALL, 0, (uint64_t)__builtin_frame_address(0), 0);
        break;
    case 2: /* grants over the pointer to them */
        called = gate(BATON_GATE_ALLOC, 64, 64, (uint64_t)__builtin_frame_address(0) - 64);
        break;
    case 3: /* reply and event at one place */
        event.tag = o->request->tag;
        called = gate(BATON_GATE_RECV, (uint64_t)&event, (uint64_t)&event, 0);
        break;
    case 4: /* head and body one buffer, the head far outside */
        parcel.head_handle = parcel.body_handle;
        parcel.head_generation = parcel.body_generation;
        parcel.head_offset = 0xfffffff0;
        parcel.head_len = 0xfffffff0;
        called = gate(BATON_GATE_CALL, 0, (uint64_t)&parcel, 0);
        break;
    }
    say("%ld", called);
}

static uint64_t flags_after;

/* flags BITS: the clock's gate with these flags set. */
static void flags(const order *o) {
    struct timespec now;
    uint64_t entry = baton_gate_page->gates[BATON_GATE_CLOCK];
    int64_t result;
    __asm__ volatile("pushfq\n orq %[bits], (%%rsp)\n popfq\n call *%[gate]\n pushfq\n pop %[after]\n cld\n"
                     : "=a"(result), [after] "=b"(flags_after)
                     : [bits] "r"(o->words[0]), [gate] "r"(entry), "D"(1ul), "S"(&now), "d"(0ul)
                     : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    say("%ld %lx", result, flags_after & 0x44500);
}

/* trapflags BITS: the same with a system call. */
static void trap_flags(const order *o) {
    int64_t result;
    __asm__ volatile("pushfq\n orq %[bits], (%%rsp)\n popfq\n syscall\n pushfq\n pop %[after]\n cld\n"
                     : "=a"(result), [after] "=b"(flags_after)
                     : [bits] "r"(o->words[0]), "0"(39ul)
                     : "rcx", "r11", "memory", "cc");
    say("%ld %lx", result, flags_after & 0x44100);
}

/* Every gate with floating-point exceptions unmasked and pending. */
static void unmasked(const order *o) {
    (void)o;
    uint32_t wild = 0x003f, tame = 0x1f80;
    uint16_t control = 0x0340;
    static char block[4096];
    baton_event answer;
    __asm__ volatile("fninit\n fldcw %1\n fld1\n fldz\n fdivrp\n ldmxcsr %0" ::"m"(wild), "m"(control));
    int64_t sum = 0;
    sum += gate(BATON_GATE_CLOCK, 1, (uint64_t)block, 0);
    sum += gate(BATON_GATE_RANDOM, (uint64_t)block, sizeof block, 0) - (int64_t)sizeof block;
    sum += gate(BATON_GATE_LOG, 'I', (uint64_t)"wild", 4);
    sum += raw_syscall(39, 0, 0, 0, 0, 0, 0) - 1;
    baton_event parcel = baton_event_blank(o->request, 0);
    parcel.flags = BATON_BYTES;
    parcel.body_offset = (uint64_t)"compute";
    parcel.body_len = 7;
    answer = parcel;
    int64_t called = gate(BATON_GATE_CALL, 0, (uint64_t)&answer, 0);
    uint32_t after;
    uint16_t control_after;
    __asm__ volatile("stmxcsr %0\n fnstcw %1\n fnclex\n fninit\n ldmxcsr %2" : "=m"(after), "=m"(control_after) : "m"(tame));
    const char *got = called == 0 ? baton_event_body(&answer) : NULL;
    say("%ld %ld %x %x %.*s", sum, called, after & 0xff80, control_after, got != NULL ? (int)answer.body_len : 0,
        got != NULL ? got : "");
}

/* segments: loads segment registers, which moves the bases of FS and GS. */
static void segments(const order *o) {
    struct timespec now;
    uint64_t entry = baton_gate_page->gates[BATON_GATE_CLOCK], base;
    int64_t result;
    uint16_t selector = (uint16_t)o->words[0];
    __asm__ volatile("mov %w[selector], %%fs\n mov %w[selector], %%gs\n mov %w[selector], %%ds\n mov %w[selector], %%es\n"
                     "call *%[gate]\n rdfsbase %[base]\n"
                     : "=a"(result), [base] "=b"(base)
                     : [selector] "r"(selector), [gate] "r"(entry), "D"(1ul), "S"(&now), "d"(0ul)
                     : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    say("%ld %d", result, (base & ~(SEAT_BYTES - 1)) == own_seat());
}

/* What a guest computes that others might disturb. */
static void compute(const order *o) {
    (void)o;
    volatile long double third = 1.0L / 3.0L;
    volatile double root = sqrt(2.0) * 1e300 * 1e-300;
    say("%.18Lf %.15f", third, root);
}

static const attack attacks[] = {{"gate", any},         {"where", where},   {"call", call},         {"reply", reply},
                                 {"receive", receive}, {"tags", tags},        {"twice", twice},   {"alloc", alloc},       {"pair", pair},
                                 {"handles", handles},  {"alias", alias},   {"flags", flags},       {"trapflags", trap_flags},
                                 {"unmasked", unmasked}, {"segments", segments}, {"compute", compute}, {NULL, NULL}};

int main(void) { return serve(attacks); }

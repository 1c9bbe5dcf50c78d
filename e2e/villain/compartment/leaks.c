/* Looking for what others left behind: in registers, in memory that comes anew, in what a reset should have cleaned. */
#include "villain.h"

#include <pthread.h>
#include <sys/mman.h>

/* Registers that carry a pattern, or are searched for one. */
__attribute__((used)) static uint64_t load[8] __attribute__((aligned(64)));
__attribute__((used)) static uint8_t state[8192] __attribute__((aligned(64)));
__attribute__((used)) static uint64_t general[16];
__attribute__((used)) static int64_t result;
/* What the last events came with. */
#define EVENTS 8
static uint8_t before[EVENTS][8192] __attribute__((aligned(64)));

/* The complement of a pattern is what programs carry about, so that the pattern itself is nowhere by mistake. */
static int is(uint64_t word, uint64_t complement) { return (word ^ complement) == ~0ul; }

static int count(const void *at, size_t bytes, uint64_t complement) {
    int found = 0;
    for (size_t i = 0; i + 8 <= bytes; i++) {
        uint64_t word;
        memcpy(&word, (const char *)at + i, 8);
        found += is(word, complement);
    }
    return found;
}

/* Fills every register that can hold anything with a pattern, then enters a gate; afterwards keeps what is in them. */
static int64_t with_registers(uint64_t complement, uint64_t entry, uint64_t a, uint64_t b, uint64_t c) {
    for (int i = 0; i < 8; i++) load[i] = ~complement;
    memset(state, 0, sizeof state);
    memset(general, 0, sizeof general);
    register uint64_t arg_c __asm__("rdx") = c;
    __asm__ volatile(
        "sub $128, %%rsp\n push %%rbx\n push %%rbp\n push %%r12\n push %%r13\n push %%r14\n push %%r15\n"
        "lea load(%%rip), %%rcx\n"
        "movq (%%rcx), %%mm0\n movq %%mm0, %%mm1\n movq %%mm0, %%mm2\n movq %%mm0, %%mm3\n movq %%mm0, %%mm4\n"
        "movq %%mm0, %%mm5\n movq %%mm0, %%mm6\n movq %%mm0, %%mm7\n"
        "vmovdqu64 (%%rcx), %%zmm0\n vmovdqa64 %%zmm0, %%zmm1\n vmovdqa64 %%zmm0, %%zmm2\n vmovdqa64 %%zmm0, %%zmm3\n"
        "vmovdqa64 %%zmm0, %%zmm4\n vmovdqa64 %%zmm0, %%zmm5\n vmovdqa64 %%zmm0, %%zmm6\n vmovdqa64 %%zmm0, %%zmm7\n"
        "vmovdqa64 %%zmm0, %%zmm8\n vmovdqa64 %%zmm0, %%zmm9\n vmovdqa64 %%zmm0, %%zmm10\n vmovdqa64 %%zmm0, %%zmm11\n"
        "vmovdqa64 %%zmm0, %%zmm12\n vmovdqa64 %%zmm0, %%zmm13\n vmovdqa64 %%zmm0, %%zmm14\n vmovdqa64 %%zmm0, %%zmm15\n"
        "vmovdqa64 %%zmm0, %%zmm16\n vmovdqa64 %%zmm0, %%zmm17\n vmovdqa64 %%zmm0, %%zmm18\n vmovdqa64 %%zmm0, %%zmm19\n"
        "vmovdqa64 %%zmm0, %%zmm20\n vmovdqa64 %%zmm0, %%zmm21\n vmovdqa64 %%zmm0, %%zmm22\n vmovdqa64 %%zmm0, %%zmm23\n"
        "vmovdqa64 %%zmm0, %%zmm24\n vmovdqa64 %%zmm0, %%zmm25\n vmovdqa64 %%zmm0, %%zmm26\n vmovdqa64 %%zmm0, %%zmm27\n"
        "vmovdqa64 %%zmm0, %%zmm28\n vmovdqa64 %%zmm0, %%zmm29\n vmovdqa64 %%zmm0, %%zmm30\n vmovdqa64 %%zmm0, %%zmm31\n"
        "mov (%%rcx), %%r8\n"
        "kmovq %%r8, %%k0\n kmovq %%r8, %%k1\n kmovq %%r8, %%k2\n kmovq %%r8, %%k3\n"
        "kmovq %%r8, %%k4\n kmovq %%r8, %%k5\n kmovq %%r8, %%k6\n kmovq %%r8, %%k7\n"
        "mov %%r8, %%r9\n mov %%r8, %%r10\n mov %%r8, %%r11\n mov %%r8, %%r12\n mov %%r8, %%r13\n mov %%r8, %%r14\n"
        "mov %%r8, %%r15\n mov %%r8, %%rbx\n mov %%r8, %%rbp\n mov %%r8, %%rcx\n"
        "call *%%rax\n"
        "mov %%rax, result(%%rip)\n"
        "mov %%rcx, general(%%rip)\n mov %%rdx, 8+general(%%rip)\n mov %%rsi, 16+general(%%rip)\n mov %%rdi, 24+general(%%rip)\n"
        "mov %%r8, 32+general(%%rip)\n mov %%r9, 40+general(%%rip)\n mov %%r10, 48+general(%%rip)\n mov %%r11, 56+general(%%rip)\n"
        "mov $0xe7, %%eax\n xor %%edx, %%edx\n xsave64 state(%%rip)\n"
        "emms\n fninit\n vzeroupper\n"
        "pop %%r15\n pop %%r14\n pop %%r13\n pop %%r12\n pop %%rbp\n pop %%rbx\n add $128, %%rsp\n"
        : "+D"(a), "+S"(b), "+r"(arg_c), "+a"(entry)
        :
        : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    return result;
}

static int64_t gate_with(uint64_t complement, unsigned number, uint64_t a, uint64_t b, uint64_t c) {
    return with_registers(complement, baton_gate_page->gates[number], a, b, c);
}

__attribute__((naked)) static void nothing(void) { __asm__("ret"); }

/* control COMPLEMENT: the same with a function that does nothing: the pattern is found wherever it was put. */
static void control(const order *o) {
    with_registers(o->words[0], (uint64_t)nothing, 0, 0, 0);
    say("%d %d", count(state, sizeof state, o->words[0]), count(general, 64, o->words[0]));
}

/* Serves with registers full of this; 0 for none. */
static uint64_t carried;

/* carry COMPLEMENT: from now on. */
static void carry(const order *o) {
    carried = o->words[0];
    say("carrying");
}

/* registers COMPLEMENT: whether what the last events came with has that pattern in it. */
static void registers(const order *o) { say("%d", count(before, sizeof before, o->words[0])); }

/* echo ANYTHING: the request itself. */
static void echo(const order *o) { say("%.*s", (int)o->request->body_len, (const char *)baton_event_body(o->request)); }

/* call COMPLEMENT OTHER: calls with registers full of one pattern; looks for the other one afterwards. */
static void call(const order *o) {
    static const char text[] = "nothing";
    baton_event parcel = baton_event_blank(o->request, 0);
    parcel.kind = BATON_REQUEST;
    parcel.flags = BATON_BYTES;
    parcel.body_offset = (uint64_t)text;
    parcel.body_len = sizeof text - 1;
    int64_t called = gate_with(o->words[0], BATON_GATE_CALL, 0, (uint64_t)&parcel, 0);
    say("%ld %d %d %d", called, count(state, sizeof state, o->words[1]), count(general, 64, o->words[1]), count(general, 64, o->words[0]));
    if (called == 0) baton_event_drop(&parcel);
}

/* syscall COMPLEMENT: a system call with registers full of it, which all come back. */
static void trap(const order *o) {
    uint64_t pattern = ~o->words[0], rdx;
    __asm__ volatile("mov %1, %%r8\n mov %1, %%r9\n mov %1, %%r10\n mov %1, %%rdi\n mov %1, %%rsi\n mov %1, %%rdx\n mov $39, %%eax\n syscall\n mov %%rdx, %0"
                     : "=r"(rdx) : "r"(pattern) : "rax", "rcx", "rdx", "rdi", "rsi", "r8", "r9", "r10", "r11", "memory");
    say("%d", rdx == pattern);
}

/* block OFFSET COMPLEMENT: looks for it in the block that all guests can read. */
static void block(const order *o) {
    const volatile uint64_t *at = (const volatile uint64_t *)(gates_at() + o->words[0]);
    int found = 0, other = 0;
    for (int i = 1; i < 512; i++) {
        found += is(at[i], o->words[1]);
        other += at[i] != 0;
    }
    say("%d %d", found, other);
}

/* search FROM TO COMPLEMENT */
static void search(const order *o) {
    int found = 0;
    for (uint64_t at = o->words[0]; at + 8 <= o->words[1]; at += 8) found += is(*(volatile uint64_t *)at, o->words[2]);
    say("%d", found);
}

/* fill BYTES COUNT COMPLEMENT FREE: buffers, all of them written full; then given back, or kept. */
static void fill(const order *o) {
    static baton_grant grants[64];
    int64_t got = gate(BATON_GATE_ALLOC, o->words[0], o->words[1], (uint64_t)grants);
    for (int64_t i = 0; i < got; i++)
        for (uint64_t at = 0; at + 8 <= grants[i].capacity; at += 8) *(volatile uint64_t *)(grants[i].base + at) = ~o->words[2];
    for (int64_t i = 0; o->words[3] && i < got; i++) gate(BATON_GATE_FREE, (uint64_t)&grants[i], 1, 0);
    say("%ld", got);
}

/* answer BYTES COMPLEMENT: with eight bytes of a large buffer that is full. */
static void answer(const order *o) {
    baton_grant grant;
    if (gate(BATON_GATE_ALLOC, o->words[0], 1, (uint64_t)&grant) != 1) return;
    for (uint64_t at = 0; at + 8 <= grant.capacity; at += 8) *(volatile uint64_t *)(grant.base + at) = ~o->words[1];
    memcpy((void *)grant.base, "answered", 8);
    baton_event reply = baton_event_blank(o->request, 200);
    reply.body_handle = grant.handle;
    reply.body_generation = grant.generation;
    reply.body_len = 8;
    if (gate(BATON_GATE_REPLY, (uint64_t)&reply, 0, 0) == 0) event.tag = 0;
}

/* look BYTES COUNT COMPLEMENT: for it in fresh buffers. */
static void look(const order *o) {
    static baton_grant grants[64];
    int found = 0;
    int64_t got = gate(BATON_GATE_ALLOC, o->words[0], o->words[1], (uint64_t)grants);
    for (int64_t i = 0; i < got; i++)
        for (uint64_t at = 0; at + 8 <= grants[i].capacity; at += 8) found += is(*(volatile uint64_t *)(grants[i].base + at), o->words[2]);
    for (int64_t i = 0; i < got; i++) gate(BATON_GATE_FREE, (uint64_t)&grants[i], 1, 0);
    say("%ld %d", got, found);
}

/* fresh COMPLEMENT: for it in memory that the system has just given. */
static void fresh(const order *o) {
    int found = 0;
    for (int i = 0; i < 16; i++) {
        volatile uint64_t *at = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) break;
        for (size_t word = 0; word < (1 << 20) / 8; word++) found += is(at[word], o->words[0]);
    }
    volatile uint64_t *heap = sbrk(1 << 20);
    for (size_t word = 0; heap != (void *)-1 && word < (1 << 20) / 8; word++) found += is(heap[word], o->words[0]);
    say("%d", found);
}

static uint64_t in_bss[1024], in_data[1024] = {1};
static __thread uint64_t in_tls[64];

/* stain COMPLEMENT: leaves it wherever a function can leave something. */
static void stain(const order *o) {
    volatile uint64_t on_stack[2048];
    uint64_t *on_heap = malloc(1 << 16), *mapped = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t *broken = sbrk(1 << 16);
    for (int i = 0; i < 2048; i++) on_stack[i] = on_heap[i] = mapped[i] = broken[i] = ~o->words[0];
    for (int i = 0; i < 1024; i++) in_bss[i] = in_data[i] = ~o->words[0];
    for (int i = 0; i < 64; i++) in_tls[i] = ~o->words[0];
    static baton_grant grants[64];
    int64_t got = gate(BATON_GATE_ALLOC, 512, 64, (uint64_t)grants);
    for (int64_t i = 0; i < got; i++)
        for (uint64_t at = 0; at + 8 <= grants[i].capacity; at += 8) *(volatile uint64_t *)(grants[i].base + at) = ~o->words[0];
    if (o->words[1] == 1) {
        /* A call that stays out: the second callee never answers that. */
        baton_event parcel = baton_event_blank(o->request, 0);
        parcel.kind = BATON_REQUEST;
        parcel.flags = BATON_BYTES;
        parcel.body_offset = (uint64_t)"silent";
        parcel.body_len = 6;
        gate(BATON_GATE_CALL, 1, (uint64_t)&parcel, 0);
    }
    say("stained %d", on_stack[7] == on_heap[7]);
}

static void *later_thread(void *complement) {
    usleep(30000);
    for (int i = 0; i < 1024; i++) in_bss[i] = ~(uint64_t)complement;
    return NULL;
}

/* later COMPLEMENT: a thread that goes on behind the answer. */
static void later(const order *o) {
    pthread_t thread;
    say("%d", pthread_create(&thread, NULL, later_thread, (void *)o->words[0]));
}

static const attack attacks[] = {{"control", control}, {"carry", carry}, {"echo", echo}, {"registers", registers}, {"call", call},   {"syscall", trap}, {"block", block}, {"search", search},
                                 {"fill", fill},   {"answer", answer},       {"look", look},   {"fresh", fresh},  {"stain", stain},   {"later", later}, {NULL, NULL}};

int main(void) {
    if (baton_open() != 0) return 2;
    for (;;) {
        int64_t got = carried != 0 ? gate_with(carried, BATON_GATE_RECV, 0, (uint64_t)&event, 0) : gate(BATON_GATE_RECV, 0, (uint64_t)&event, 0);
        if (carried == 0) {
            /* What the gate brought, before anything else can use registers. */
            __asm__ volatile("xsave64 %0" : "=m"(before[served % EVENTS]) : "a"(0xe7), "d"(0) : "memory");
        }
        if (got < 0) return 4;
        if (event.kind != BATON_REQUEST) continue;
        served++;
        answer_len = 0;
        const char *body = baton_event_body(&event);
        if (event.body_len == 4 && body != NULL && memcmp(body, "ping", 4) == 0) say("pong %lu", served);
        else if (!obey(&event, attacks)) say("no such attack");
        if (event.tag == 0) continue;
        if (carried != 0) {
            baton_event reply = baton_event_blank(&event, 200);
            reply.flags = BATON_BYTES;
            reply.body_offset = (uint64_t)answer_text;
            reply.body_len = answer_len;
            baton_event_drop(&event);
            gate_with(carried, BATON_GATE_REPLY, (uint64_t)&reply, 0, 0);
        } else {
            baton_event_reply_bytes(&event, 200, answer_text, answer_len);
        }
    }
}

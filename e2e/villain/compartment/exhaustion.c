/* Taking more than one's share: time, memory, threads, buffers, log lines, the neighbour's room. */
#include "villain.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* loop KIND: never comes back. */
static void loop(const order *o) {
    static char block[1 << 20];
    for (;;) switch (o->words[0]) {
        case 0: __asm__ volatile("pause"); break;
        case 1: raw_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0); break;
        case 2: raw_syscall(SYS_getrandom, (uint64_t)block, sizeof block, 0, 0, 0, 0); break;
        case 3: gate(BATON_GATE_CLOCK, 1, (uint64_t)block, 0); break;
        case 4: gate(BATON_GATE_RANDOM, (uint64_t)block, 65536, 0); break;
        case 5: gate(BATON_GATE_LOG, 'I', (uint64_t)block, 8192); break;
        case 6: raw_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0); break;
        case 7: raw_syscall(SYS_write, 1, (uint64_t)block, sizeof block, 0, 0, 0); break;
        case 8: { /* a buffer that is large enough to be wiped, again and again */
            baton_grant grant;
            if (gate(BATON_GATE_ALLOC, 1 << 20, 1, (uint64_t)&grant) == 1) {
                memset((void *)grant.base, 1, 64);
                gate(BATON_GATE_FREE, (uint64_t)&grant, 1, 0);
            }
            break;
        }
        case 9: { /* calls, back and forth */
            baton_event answer;
            if (baton_event_call_bytes(o->request, 0, "intact", 6, &answer) == 0) baton_event_drop(&answer);
            break;
        }
        case 10: { /* memory that comes and goes */
            void *at = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            munmap(at, 1 << 20);
            break;
        }
        }
}

/* sleep SECONDS, in the middle of a request */
static void sleep_long(const order *o) {
    struct timespec time = {(time_t)o->words[0], 0};
    nanosleep(&time, NULL);
    say("woke");
}

/* Never answers: goes back for the next request instead. */
static void silent(const order *o) {
    (void)o;
    event.tag = 0;
}

static void map_all(const order *o) {
    (void)o;
    uint64_t total = 0;
    for (;;) {
        uint8_t *at = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) break;
        for (size_t page = 0; page < 1 << 20; page += PAGE) at[page] = 1;
        total += 1 << 20;
    }
    say("%lx %d", total, errno);
}

static void break_all(const order *o) {
    (void)o;
    uint8_t *before = sbrk(0), *last = before;
    while (sbrk(1 << 20) != (void *)-1) {
        memset(last, 1, 1 << 20);
        last = sbrk(0);
    }
    say("%lx %d", (uint64_t)(last - before), errno);
}

/* As many ranges as there can be, each of one page. */
static void shred(const order *o) {
    (void)o;
    size_t len = 32 << 20;
    uint8_t *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int done = 0;
    for (size_t page = 0; page < len / PAGE; page += 2)
        if (mprotect(at + page * PAGE, PAGE, PROT_READ) == 0) done++;
    say("%d", done);
}

/* Writes every other page of so many bytes: a seat that is watched has as many ranges of its own. */
static void stripe(const order *o) {
    uint8_t *at = mmap(NULL, o->words[0], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        say("%d", errno);
        return;
    }
    for (size_t page = 0; page < o->words[0] / PAGE; page += 2) at[page * PAGE] = 1;
    say("striped");
}

/* Of STRIPES megabytes, if the environment says so: there from before the first request. */
static uint8_t *early;
static size_t early_bytes;

/* The same in memory that is there from the start. */
static void stripe_early(const order *o) {
    (void)o;
    for (size_t page = 0; page < early_bytes / PAGE; page += 2) early[page * PAGE] = 1;
    say("striped");
}

static void *idle_thread(void *nothing) {
    for (;;) pause();
    return nothing;
}

static void *busy_thread(void *nothing) {
    for (;;) __asm__ volatile("pause");
    return nothing;
}

static void *late_thread(void *nothing) {
    usleep(20000);
    return busy_thread(nothing);
}

/* threads KIND: as many as there can be, of one kind, that stay behind the answer. */
static void threads(const order *o) {
    static void *(*const kinds[])(void *) = {idle_thread, busy_thread, late_thread};
    int made = 0, error = 0;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (; made < 1000; made++) {
        pthread_t thread;
        error = pthread_create(&thread, &attributes, kinds[o->words[0]], NULL);
        if (error != 0) break;
    }
    say("%d %d", made, error);
}

static void processes(const order *o) {
    (void)o;
    uint64_t clone_args[8] = {0, 0, 0, 0, 17, 0, 0, 0};
    say("%ld %ld %ld %ld %ld", raw_syscall(SYS_fork, 0, 0, 0, 0, 0, 0), raw_syscall(SYS_vfork, 0, 0, 0, 0, 0, 0),
        raw_syscall(SYS_clone, 17, 0, 0, 0, 0, 0), raw_syscall(SYS_clone3, (uint64_t)clone_args, sizeof clone_args, 0, 0, 0, 0),
        raw_syscall(SYS_execve, (uint64_t)"/bin/sh", 0, 0, 0, 0, 0));
}

/* hoard BYTES: takes buffers until there are none. */
static void hoard(const order *o) {
    static baton_grant grants[64];
    int64_t taken = 0, last;
    uint64_t bytes = 0;
    while ((last = gate(BATON_GATE_ALLOC, o->words[0], 64, (uint64_t)grants)) > 0 && taken < 1000000) {
        taken += last;
        bytes += (uint64_t)last * grants[0].capacity;
    }
    say("%lx %ld", bytes, last);
}

/* log LINES: as fast as it can. */
static void flood(const order *o) {
    static char line[8192];
    memset(line, 'x', sizeof line);
    for (uint64_t i = 0; i < o->words[0]; i++) {
        gate(BATON_GATE_LOG, 'I', (uint64_t)line, sizeof line);
        raw_syscall(SYS_write, 1, (uint64_t)line, sizeof line, 0, 0, 0);
    }
    say("logged");
}

/* bury COUNT: calls the neighbour with a body and a head that is not there; what of the body arrives is nobody's. */
static void bury(const order *o) {
    static char body[32 << 10];
    int64_t last = 0;
    for (uint64_t i = 0; i < o->words[0]; i++) {
        baton_event call = baton_event_blank(o->request, 0);
        call.flags = BATON_BYTES;
        call.body_offset = (uint64_t)body;
        call.body_len = sizeof body;
        call.head_handle = 12345;
        call.head_generation = 1;
        last = gate(BATON_GATE_CALL, 0, (uint64_t)&call, 0);
    }
    say("%ld", last);
}

/* leak COUNT: the same with answers to the node. */
static void leak(const order *o) {
    static char body[32 << 10];
    int64_t last = 0;
    for (uint64_t i = 0; i < o->words[0]; i++) {
        baton_event reply = baton_event_blank(o->request, 200);
        reply.flags = BATON_BYTES;
        reply.body_offset = (uint64_t)body;
        reply.body_len = sizeof body;
        reply.head_handle = 12345;
        reply.head_generation = 1;
        last = gate(BATON_GATE_REPLY, (uint64_t)&reply, 0, 0);
    }
    say("%ld", last);
}

/* recurse: calls itself through the neighbour, which calls back. */
static void recurse(const order *o) {
    baton_event answer;
    int64_t called = baton_event_call_bytes(o->request, 0, "relay recurse", 13, &answer);
    if (called < 0) say("%ld", called);
    else {
        say("%u", answer.code);
        baton_event_drop(&answer);
    }
}

/* hurry COUNT: calls that it has given up before they begin. The callee works for longer than a tick takes to come. */
static void hurry(const order *o) {
    int64_t last = 0;
    for (uint64_t i = 0; i < o->words[0]; i++) {
        baton_event call = baton_event_blank(o->request, 0);
        call.kind = BATON_REQUEST;
        call.flags = BATON_BYTES;
        call.body_offset = (uint64_t)"busy 19";
        call.body_len = 7;
        call.deadline_ns = 1;
        last = gate(BATON_GATE_CALL, 0, (uint64_t)&call, 0);
        if (last == BATON_PENDING) gate(BATON_GATE_CANCEL, call.tag, 0, 0);
        else if (last == 0) baton_event_drop(&call);
    }
    say("%ld", last);
}

/* calls COUNT: makes calls and gives them up at once. */
static void calls(const order *o) {
    int64_t last = 0;
    for (uint64_t i = 0; i < o->words[0]; i++) {
        baton_event call = baton_event_blank(o->request, 0);
        call.kind = BATON_REQUEST;
        call.flags = BATON_BYTES;
        call.body_offset = (uint64_t)"silent";
        call.body_len = 6;
        last = gate(BATON_GATE_CALL, 0, (uint64_t)&call, 0);
        if (last == BATON_PENDING) gate(BATON_GATE_CANCEL, call.tag, 0, 0);
    }
    say("%ld", last);
}

static const attack attacks[] = {{"loop", loop},
                                 {"sleep", sleep_long},
                                 {"silent", silent},
                                 {"map", map_all},
                                 {"break", break_all},
                                 {"shred", shred},
                                 {"stripe", stripe},
                                 {"stripeearly", stripe_early},
                                 {"threads", threads},
                                 {"processes", processes},
                                 {"hoard", hoard},
                                 {"flood", flood},
                                 {"bury", bury},
                                 {"leak", leak},
                                 {"recurse", recurse},
                                 {"calls", calls},
                                 {"hurry", hurry},
                                 {NULL, NULL}};

int main(void) {
    const char *stripes = getenv("STRIPES");
    if (stripes != NULL) {
        early_bytes = strtoul(stripes, NULL, 10) << 20;
        early = mmap(NULL, early_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (early == MAP_FAILED) return 3;
    }
    return serve(attacks);
}

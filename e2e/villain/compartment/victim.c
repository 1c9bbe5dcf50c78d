/* The honest neighbour: keeps secrets, and can say whether anyone touched them. */
#include "villain.h"

#include <time.h>

static volatile uint64_t secret[64] __attribute__((aligned(64)));
static uint64_t *on_heap;
static baton_grant buffer;

static uint64_t value(int i) { return 0x5ec7e75ec7e70000ul + (uint64_t)i; }

static void where(const order *o) {
    (void)o;
    say("%lx %lx %lx", (uint64_t)secret, (uint64_t)on_heap, (uint64_t)__builtin_frame_address(0));
}

static void intact(const order *o) {
    (void)o;
    for (int i = 0; i < 64; i++)
        if (secret[i] != value(i) || on_heap[i] != value(i)) {
            say("changed");
            return;
        }
    say("intact");
}

/* hold BYTES: takes a buffer, fills it with the secret and says how it is called and where it lies. */
static void hold(const order *o) {
    int64_t got = gate(BATON_GATE_ALLOC, o->words[0], 1, (uint64_t)&buffer);
    if (got != 1) {
        say("%ld", got);
        return;
    }
    for (size_t i = 0; i < o->words[0] / 8; i++) ((uint64_t *)buffer.base)[i] = value((int)(i % 64));
    say("%x %x %lx %lx", buffer.handle, buffer.generation, buffer.base, buffer.capacity);
}

/* held: whether the buffer still holds what it held. */
static void held(const order *o) {
    for (size_t i = 0; i < o->words[0] / 8; i++)
        if (((volatile uint64_t *)buffer.base)[i] != value((int)(i % 64))) {
            say("changed at %lx", i * 8);
            return;
        }
    say("held");
}

static void let_go(const order *o) {
    (void)o;
    baton_pair pair = {buffer.handle, buffer.generation};
    say("%ld", gate(BATON_GATE_FREE, (uint64_t)&pair, 1, 0));
}

/* relay ORDER: asks the first callee for that. */
static void relay(const order *o) {
    const char *body = baton_event_body(o->request);
    baton_event answer;
    int64_t called = baton_event_call_bytes(o->request, 0, body + 6, o->request->body_len - 6, &answer);
    if (called < 0) {
        say("%ld", called);
        return;
    }
    const char *got = baton_event_body(&answer);
    say("%u:%.*s", answer.code, (int)answer.body_len, got != NULL ? got : "");
    baton_event_drop(&answer);
}

/* busy MILLISECONDS: works for so long. */
static void busy(const order *o) {
    struct timespec from, now;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - from.tv_sec) * 1000 + (now.tv_nsec - from.tv_nsec) / 1000000 < (long)o->words[0]);
    say("done");
}

/* Never answers. */
static void silent(const order *o) {
    (void)o;
    event.tag = 0;
}

static const attack honest[] = {{"where", where}, {"intact", intact}, {"hold", hold}, {"held", held},
                                {"free", let_go}, {"relay", relay}, {"busy", busy}, {"silent", silent}, {NULL, NULL}};

int main(void) {
    on_heap = malloc(64 * sizeof *on_heap);
    for (int i = 0; i < 64; i++) secret[i] = on_heap[i] = value(i);
    return serve(honest);
}

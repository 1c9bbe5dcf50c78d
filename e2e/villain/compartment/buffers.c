/* Buffers that are not one's own any more, or not yet, or not to write. */
#include "villain.h"

static baton_grant mine;
/* What an event brought: where it lay, and its name. */
static baton_event taken;

static uint64_t pattern(size_t i) { return 0xb0ffe400b0ffe400ul + i; }

/* take BYTES: a buffer full of pattern. */
static void take(const order *o) {
    int64_t got = gate(BATON_GATE_ALLOC, o->words[0], 1, (uint64_t)&mine);
    if (got == 1)
        for (size_t i = 0; i < mine.capacity / 8; i++) ((uint64_t *)mine.base)[i] = pattern(i);
    say("%ld %lx %lx", got, mine.base, mine.capacity);
}

/* holds: whether all of it is as it was written. */
static void holds(const order *o) {
    (void)o;
    for (size_t i = 0; i < mine.capacity / 8; i++)
        if (((volatile uint64_t *)mine.base)[i] != pattern(i)) {
            say("changed at %lx", i * 8);
            return;
        }
    say("holds");
}

/* pair GATE B C: a gate about it. */
static void pair(const order *o) {
    baton_pair it = {mine.handle, mine.generation};
    say("%ld", gate((unsigned)o->words[0], (uint64_t)&it, o->words[1], o->words[2]));
}

/* send FLAGS OFFSET LEN RIGHTS KEEP: the buffer to the first callee, which is told to keep what it gets (1), to write it (2),
 * to give it up (3), to answer with it (4), to lend it on (5); says what came back. */
static void send(const order *o) {
    baton_event parcel = baton_event_blank(o->request, (uint16_t)o->words[4]);
    parcel.kind = BATON_REQUEST;
    parcel.flags = (uint8_t)o->words[0];
    parcel.body_handle = mine.handle;
    parcel.body_generation = mine.generation;
    parcel.body_offset = o->words[1];
    parcel.body_len = o->words[2];
    parcel.rights = (uint32_t)o->words[3];
    int64_t called = gate(BATON_GATE_CALL, 0, (uint64_t)&parcel, 0);
    if (called == BATON_PENDING) called = gate(BATON_GATE_WAIT, parcel.tag, (uint64_t)&parcel, 0);
    const char *got = called == 0 ? baton_event_body(&parcel) : NULL;
    say("%ld %u %.*s", called, parcel.code, got != NULL ? (int)(parcel.body_len < 200 ? parcel.body_len : 200) : 0,
        got != NULL ? got : "");
    if (called == 0) baton_event_drop(&parcel);
}

/* ask ORDER: a plain request to the first callee. */
static void ask(const order *o) {
    const char *body = baton_event_body(o->request);
    baton_event answer;
    int64_t called = baton_event_call_bytes(o->request, 0, body + 4, o->request->body_len - 4, &answer);
    const char *got = called == 0 ? baton_event_body(&answer) : NULL;
    say("%ld %u %.*s", called, answer.code, got != NULL ? (int)answer.body_len : 0, got != NULL ? got : "");
    if (called == 0) baton_event_drop(&answer);
}

/* touch OFFSET / write OFFSET: of the own buffer, or what was the own buffer. */
static void touch(const order *o) { say("%lx", *(volatile uint64_t *)(mine.base + o->words[0])); }
static void dirty(const order *o) {
    *(volatile uint64_t *)(mine.base + o->words[0]) = 1;
    say("written");
}

/* peek OFFSET / poke OFFSET: of what an event once brought. */
static void peek(const order *o) { say("%lx", *(volatile uint64_t *)(taken.body_base + o->words[0])); }
static void poke(const order *o) {
    *(volatile uint64_t *)(taken.body_base + o->words[0]) = 1;
    say("written");
}

/* slack: whether anything but zeros lies beside what an event brought. */
static void slack(const order *o) {
    (void)o;
    uint64_t begin = taken.body_offset & ~7ul, end = (taken.body_offset + taken.body_len + 7) & ~7ul;
    uint64_t found = 0;
    for (uint64_t at = 0; at < taken.body_capacity; at += 8)
        if ((at < begin || at >= end) && *(volatile uint64_t *)(taken.body_base + at) != 0) found++;
    say("%lx", found);
}

/* release: gives back what an event once brought, or what is left of that. */
static void release(const order *o) {
    (void)o;
    baton_pair it = {taken.body_handle, taken.body_generation};
    say("%ld", gate(BATON_GATE_FREE, (uint64_t)&it, 1, 0));
}

/* A payload from `send`: what to do with it is the request's code. */
static void receive(const baton_event *request) {
    taken = *request;
    baton_event reply = baton_event_blank(request, 200);
    const char *text = "kept";
    switch (request->code) {
    case 2:
        *(volatile uint64_t *)(request->body_base + request->body_offset) = 0x777;
        text = "written";
        break;
    case 3: {
        baton_pair it = {request->body_handle, request->body_generation};
        int64_t first = gate(BATON_GATE_FREE, (uint64_t)&it, 1, 0), second = gate(BATON_GATE_FREE, (uint64_t)&it, 1, 0);
        say("%ld %ld", first, second);
        text = answer_text;
        break;
    }
    case 4:
        reply.body_handle = request->body_handle;
        reply.body_generation = request->body_generation;
        reply.body_offset = request->body_offset;
        reply.body_len = request->body_len;
        say("%ld", gate(BATON_GATE_REPLY, (uint64_t)&reply, 0, 0));
        text = answer_text;
        reply.body_handle = BATON_NONE;
        break;
    case 7: /* what lies in front of it and behind it */
        say("%lx", *(volatile uint64_t *)request->body_base);
        text = answer_text;
        break;
    case 8:
        say("%lx", *(volatile uint64_t *)(request->body_base + request->body_capacity - 8));
        text = answer_text;
        break;
    case 6: /* more than it was given */
        reply.body_handle = request->body_handle;
        reply.body_generation = request->body_generation;
        reply.body_len = request->body_capacity;
        say("%ld", gate(BATON_GATE_REPLY, (uint64_t)&reply, 0, 0));
        text = answer_text;
        break;
    }
    baton_event out = baton_event_blank(request, 200);
    out.flags = BATON_BYTES;
    out.body_offset = (uint64_t)text;
    out.body_len = strlen(text);
    gate(BATON_GATE_REPLY, (uint64_t)&out, 0, 0);
}

static const attack attacks[] = {{"take", take},   {"holds", holds}, {"pair", pair}, {"send", send}, {"ask", ask},         {"touch", touch},
                                 {"dirty", dirty}, {"peek", peek},   {"poke", poke}, {"slack", slack}, {"release", release}, {NULL, NULL}};

int main(void) {
    if (baton_open() != 0) return 2;
    for (;;) {
        int64_t kind = baton_recv(&event);
        if (kind < 0) return 4;
        if (kind != BATON_REQUEST) continue;
        served++;
        answer_len = 0;
        answer_text[0] = 0;
        if (event.code != 0) {
            receive(&event);
            continue;
        }
        const char *body = baton_event_body(&event);
        if (event.body_len == 4 && body != NULL && memcmp(body, "ping", 4) == 0) say("pong %lu", served);
        else if (!obey(&event, attacks)) say("no such attack");
        baton_event_reply_bytes(&event, 200, answer_text, answer_len);
    }
}

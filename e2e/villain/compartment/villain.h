/* What the hostile guests of a cell share: an honest loop around attacks that a request names.
 *
 * A request is "NAME WORD WORD ...", the words being hexadecimal numbers. The answer says what came of it, if the guest is
 * still there to say so. "ping" is answered with "pong" and the number of requests served so far.
 */
#ifndef VILLAIN_H
#define VILLAIN_H

#include <baton/gates.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Where things lie in a cell (crates/abi/src/cell.rs). */
#define SEATS_AT 0x200000000000ul
#define SEAT_BYTES (1ul << 36)
#define GATE_PAGE_AT 0x100000000000ul
#define VDSO_AT 0x100000010000ul
#define POOL_AT 0x300000000000ul
#define MAIL_OFFSET (8ul << 30)
#define STACK_TOP (SEAT_BYTES - (1ul << 20))
#define PAGE 4096ul

#define WORDS_MAX 24

typedef struct {
    const baton_event *request;
    uint64_t words[WORDS_MAX];
    int count;
} order;

typedef struct {
    const char *name;
    void (*run)(const order *);
} attack;

static unsigned long served;
static char answer_text[60000];
static size_t answer_len;

/* Adds to the answer. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    int written = vsnprintf(answer_text + answer_len, sizeof answer_text - answer_len, format, rest);
    va_end(rest);
    if (written > 0) answer_len += (size_t)written;
    if (answer_len >= sizeof answer_text) answer_len = sizeof answer_text - 1;
}

/* The first byte of this program's seat. */
static inline uint64_t own_seat(void) { return (uint64_t)&served & ~(SEAT_BYTES - 1); }

/* Address of the first gate, from which everything in the runtime has a known distance. */
static inline uint64_t gates_at(void) { return baton_gate_page->gates[0]; }

static inline int64_t gate(unsigned number, uint64_t a, uint64_t b, uint64_t c) {
    return baton_call_gate(number, a, b, c);
}

static inline int64_t raw_syscall(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    int64_t result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static inline uint32_t rights(void) {
    uint32_t low, high;
    __asm__ volatile("rdpkru" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Splits a request; 1 if it names an attack of the table and that was run. */
static inline int obey(const baton_event *request, const attack *attacks) {
    static order to;
    char text[1024];
    const char *body = baton_event_body(request);
    size_t len = request->body_len < sizeof text - 1 ? request->body_len : sizeof text - 1;
    memset(&to, 0, sizeof to);
    if (body != NULL) memcpy(text, body, len);
    text[body != NULL ? len : 0] = 0;
    to.request = request;
    char *rest = NULL;
    const char *name = strtok_r(text, " ", &rest);
    if (name == NULL) return 0;
    for (const char *word; to.count < WORDS_MAX && (word = strtok_r(NULL, " ", &rest)) != NULL;)
        to.words[to.count++] = strtoul(word, NULL, 16);
    for (; attacks->name != NULL; attacks++)
        if (strcmp(attacks->name, name) == 0) {
            attacks->run(&to);
            return 1;
        }
    return 0;
}

/* The event at work. An attack that sets its tag to 0 gets no answer sent. */
static baton_event event;

/* Serves for ever. */
static inline int serve(const attack *attacks) {
    if (baton_open() != 0) return 2;
    for (;;) {
        int64_t kind = baton_recv(&event);
        if (kind < 0) return 4;
        if (kind != BATON_REQUEST) continue;
        served++;
        answer_len = 0;
        const char *body = baton_event_body(&event);
        if (event.body_len == 4 && body != NULL && memcmp(body, "ping", 4) == 0) say("pong %lu", served);
        else if (!obey(&event, attacks)) say("no such attack");
        if (event.tag != 0) baton_event_reply_bytes(&event, 200, answer_text, answer_len);
    }
}

#endif

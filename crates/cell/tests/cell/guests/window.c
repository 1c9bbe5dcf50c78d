/* Reaches for the pool through the window of its seat, as the first byte of a request says. */
#include <baton/gates.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SEAT_BYTES (64ull << 30)
#define WINDOW_OFFSET (56ull << 30)
#define POOL_AT 0x300000000000ull

static uint64_t kept;

static volatile uint8_t *window(uint64_t pool_address) {
    uint64_t seat = (uint64_t)&kept & ~(SEAT_BYTES - 1);
    return (volatile uint8_t *)(seat + WINDOW_OFFSET + (pool_address - POOL_AT));
}

static void act(const baton_event *request) {
    const uint8_t *body = baton_event_body(request);
    uint64_t at = (uint64_t)body;
    char out[64];
    int len = 0;
    if (request->body_len == 0 || at < POOL_AT) {
        len = sprintf(out, "not in the pool");
    } else {
        switch (body[0]) {
        case 'r': /* the last byte of the payload, by both ways */
            len = sprintf(out, "%d %d", body[request->body_len - 1], window(at)[request->body_len - 1]);
            break;
        case 'w': /* writes it there, reads it here */
            window(at)[request->body_len - 1] = 42;
            len = sprintf(out, "%d", body[request->body_len - 1]);
            break;
        case 'b': { /* has the runtime read it there as if it were memory of its own */
            baton_event answer = baton_event_blank(request, 200);
            answer.kind = BATON_REPLY;
            answer.flags = BATON_BYTES;
            answer.body_offset = (uint64_t)window(at);
            answer.body_len = 100;
            len = sprintf(out, "%d", (int)baton_call_gate(BATON_GATE_REPLY, (uint64_t)&answer, 0, 0));
            break;
        }
        case 'g': /* has a gate write there */
            len = sprintf(out, "%d", (int)baton_call_gate(BATON_GATE_CLOCK, 1, (uint64_t)window(at), 0));
            break;
        case 'k': /* remembers where it lies, gives it back, and goes on reading */
            kept = at;
            baton_event_drop(request);
            len = sprintf(out, "%d", window(kept)[1]);
            break;
        case 'o': /* where another seat's last payload lay: its address follows */
            kept = *(const uint64_t *)(body + 8);
            len = sprintf(out, "%d", window(kept)[1]);
            break;
        case 'a': /* keeps its payload, and says where it lies */
            kept = at;
            len = sprintf(out, "%llu", (unsigned long long)at);
            baton_event_reply_bytes(&(baton_event){.tag = request->tag, .body_handle = BATON_NONE, .head_handle = BATON_NONE}, 200,
                              out, len);
            return;
        }
    }
    baton_event_reply_bytes(request, 200, out, len);
}

int main(void) {
    if (baton_open() < 0) return 2;
    static baton_event event;
    for (;;) {
        int64_t kind = baton_recv(&event);
        if (kind == BATON_REQUEST) act(&event);
        if (kind < 0 || kind == BATON_SHUTDOWN) return 0;
    }
}

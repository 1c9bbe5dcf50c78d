/* Answers with what it got, and with what its first byte asks for. */
#include <baton/gates.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int served;
static volatile uintptr_t served_at = 8;

static void act(const baton_event *request) {
    const char *body = baton_event_body(request);
    char out[256];
    int len = 0;
    switch (request->body_len ? body[0] : 0) {
    case 'n': /* number of requests served */
        len = sprintf(out, "%d", ++served);
        break;
    case 'c': { /* call the first callee with the rest */
        baton_event answer;
        int64_t called = baton_event_call_bytes(request, 0, body + 1, request->body_len - 1, &answer);
        if (called < 0) {
            len = sprintf(out, "call: %s", strerror((int)-called));
            break;
        }
        const char *got = baton_event_body(&answer);
        len = snprintf(out, sizeof out, "%s%u:%.*s", answer.flags & BATON_ERROR ? "error " : "", answer.code,
                       (int)answer.body_len, got ? got : "");
        baton_event_drop(&answer);
        break;
    }
    case 'x':
        abort();
    case 'e':
        exit(3);
    case 's':
        *(volatile char *)(uintptr_t)served_at = 1;
        break;
    case 'l':
        for (volatile long i = 0;; i++) {}
    case 't': {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        len = sprintf(out, "%ld", now.tv_sec);
        break;
    }
    case 'p':
        printf("printed\n");
        fflush(stdout);
        baton_log('I', "logged");
        len = sprintf(out, "ok");
        break;
    case 'z': {
        struct timespec nap = {0, 20 * 1000 * 1000};
        nanosleep(&nap, NULL);
        len = sprintf(out, "slept");
        break;
    }
    case 'm': {
        char *heap = malloc(1 << 20);
        memset(heap, 7, 1 << 20);
        len = sprintf(out, "%d", heap[12345]);
        free(heap);
        break;
    }
    default:
        baton_event_reply_same(request, 200);
        return;
    }
    baton_event_reply_bytes(request, 200, out, (size_t)len);
}

int main(void) {
    baton_event event;
    if (baton_open() != 0) return 2;
    for (;;) {
        int64_t kind = baton_recv(&event);
        if (kind == BATON_REQUEST) act(&event);
        else if (kind < 0) return 4;
    }
}

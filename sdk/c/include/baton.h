/* Baton functions in C, for processes, compartments and as Wasm modules: one source for all.
 *
 *     #include <baton.h>
 *
 *     static void greet(baton_request *request) {
 *         baton_header(request, "content-type", "text/plain");
 *         baton_reply_text(request, 200, "hello, world\n");
 *     }
 *
 *     int main(void) { return baton_serve(greet); }
 *
 *     cc -O2 -static-pie -I sdk/c/include -o greet greet.c sdk/c/src/baton.c
 *     cc -O2 -static-pie -DBATON_LINK -I sdk/c/include -o greet greet.c sdk/c/src/baton.c libbaton.a
 *     python3 -m ziglang cc -target wasm32-wasi -O2 -I sdk/c/include -o greet.wasm greet.c sdk/c/src/baton.c
 *
 * Requests are served one at a time; a call waits for its answer. What a handler is given (bodies, heads, answers) lies where
 * it came and is read in place. Functions that can fail give 0, or a negative number of BATON_E… (<baton/gates.h>).
 * docs/sdk-c.md has the whole.
 */
#ifndef BATON_H
#define BATON_H

#include <stdbool.h>

#include <baton/gates.h>

/* Headers of one answer, encoded: 4 bytes, the name and the value of each. */
#define BATON_HEAD_BYTES 2048
/* Bytes in front of a buffer's payload that are left for a head. */
#define BATON_HEADROOM_BYTES 128
/* Payloads up to this size travel in the message itself. */
#define BATON_SMALL_BYTES 64

/* Bytes that lie somewhere; `at` is NULL if there are none, and nothing ends them but `len`. */
typedef struct { const char *at; size_t len; } baton_bytes;

/* A request, and the headers of its answer so far. */
typedef struct {
    baton_event event;
    bool is_answered;
    size_t head_len;
    uint8_t head[BATON_HEAD_BYTES];
} baton_request;

/* What a called function answered. Give it back with baton_answer_drop(). */
typedef struct { baton_event event; } baton_answer;

/* Memory of the pool that this function owns: a payload that grows, up to `capacity`. */
typedef struct {
    uint32_t handle, generation;
    uint8_t *base;
    size_t capacity, start, len;
} baton_buffer;

/* Answers a request, by exactly one of the baton_reply functions. One that returns without is answered with 500. */
typedef void (*baton_handler)(baton_request *request);

/* Serves with `handler`; call it from main, once, and return what it returns: to a module, requests come after that. 2, with
 * a line on standard error, in a program that no node started: in a compartment, or with BATON_LINK in a process. */
int baton_serve(baton_handler handler);

/* ---- the request ---- */

/* The payload, in place, until it is moved or the handler returns. */
baton_bytes baton_body(const baton_request *request);
/* Method, path (percent-encoded) and query (without its question mark): empty in calls from functions. */
baton_bytes baton_method(const baton_request *request);
baton_bytes baton_path(const baton_request *request);
baton_bytes baton_query(const baton_request *request);
/* A path parameter of the route, and the first header of a name in lower case. */
baton_bytes baton_param(const baton_request *request, const char *name);
baton_bytes baton_request_header(const baton_request *request, const char *name);
/* The operation that a calling function chose; 0 from the gateway. */
uint16_t baton_operation(const baton_request *request);
/* Whether bytes are this text. */
bool baton_is(baton_bytes bytes, const char *text);

/* ---- buffers ---- */

/* Takes a buffer for a payload of `bytes`. */
int baton_alloc(baton_buffer *buffer, size_t bytes);
/* Writes behind the payload. -BATON_ENOSPC, and nothing is written, if there is no room. */
int baton_append(baton_buffer *buffer, const void *bytes, size_t len);
int baton_append_text(baton_buffer *buffer, const char *text);
/* Makes the payload `len` zeros longer and says where they are; NULL if there is no room. */
void *baton_extend(baton_buffer *buffer, size_t len);
/* Gives a buffer back that was not sent. */
void baton_free(baton_buffer *buffer);

/* ---- answers ---- */

/* Adds a header to the answer; `name` in lower case. */
int baton_header(baton_request *request, const char *name, const char *value);
/* Without a payload. */
int baton_reply(baton_request *request, uint16_t status);
/* With a copy of bytes. */
int baton_reply_bytes(baton_request *request, uint16_t status, const void *bytes, size_t len);
int baton_reply_text(baton_request *request, uint16_t status, const char *text);
/* With a buffer, which moves: it is gone, whether that worked or not. */
int baton_reply_buffer(baton_request *request, uint16_t status, baton_buffer *buffer);
/* With the request's own payload, or an answer's: it moves if it is this function's, and is copied if it was lent or shared. */
int baton_reply_body(baton_request *request, uint16_t status);
int baton_reply_answer(baton_request *request, uint16_t status, baton_answer *answer);
/* A failure: callers, and clients, read the text. */
int baton_fail(baton_request *request, uint16_t status, const char *text);

/* ---- calls ---- */

/* Calls a function that the manifest's `calls` names and waits for its answer. 0 if it answered, be it with a failure; else why
 * not: -BATON_ENOENT (not in `calls`), -BATON_EAGAIN (it has too much to do), -BATON_ETIMEDOUT, -BATON_EHOSTUNREACH (it is not
 * there). Then there is nothing to drop. */
int baton_call(baton_request *request, const char *function, uint16_t operation, const void *bytes, size_t len,
               baton_answer *answer);
/* … with a buffer that moves: it is gone in any case. */
int baton_call_buffer(baton_request *request, const char *function, uint16_t operation, baton_buffer *buffer,
                      baton_answer *answer);
/* … with a buffer that the called function may read until it answers. */
int baton_call_lent(baton_request *request, const char *function, uint16_t operation, const baton_buffer *buffer,
                    baton_answer *answer);
/* … with the request's own payload, as baton_reply_body() has it. */
int baton_call_body(baton_request *request, const char *function, uint16_t operation, baton_answer *answer);

/* Whether it is a failure: then its payload is a text. */
bool baton_answer_failed(const baton_answer *answer);
uint16_t baton_answer_status(const baton_answer *answer);
baton_bytes baton_answer_body(const baton_answer *answer);
/* The first header of a name in lower case. */
baton_bytes baton_answer_header(const baton_answer *answer, const char *name);
void baton_answer_drop(baton_answer *answer);

/* ---- the rest ---- */

/* Nanoseconds: of CLOCK_MONOTONIC, which is the same for all functions of a machine, and since 1970. */
uint64_t baton_now_ns(void);
uint64_t baton_wall_ns(void);
/* Fills with random bytes. */
int baton_random(void *bytes, size_t len);

#endif

/* The SDK for C: requests, answers and calls over the gates. See <baton.h>. Nothing is allocated but buffers of the pool. */
#include <baton.h>

#include <stdio.h>
#include <stdlib.h>

/* Records of a head: tag, length of the name, length of the value (two bytes, little end first), name, value. */
enum { METHOD = 1, PATH = 2, QUERY = 3, PARAM = 4, HEADER = 5, RECORD_PREFIX_BYTES = 4, NAME_BYTES_MAX = 255 };
/* Linux' numbers of clocks. */
enum { WALL_CLOCK = 0, MONOTONIC_CLOCK = 1 };

static const baton_bytes NOTHING = {NULL, 0};

/* ---- what comes ---- */

static baton_bytes body_of(const baton_event *event) {
    const void *at = baton_event_body(event);
    uint64_t most = event->flags & BATON_INLINE ? BATON_SMALL_BYTES : event->body_capacity;
    uint64_t from = event->flags & BATON_INLINE ? 0 : event->body_offset;
    /* A range outside of its buffer, which the runtime does not send, is no payload. */
    if (at == NULL || event->body_len == 0 || from > most || event->body_len > most - from) return NOTHING;
    return (baton_bytes){at, (size_t)event->body_len};
}

/* The first record of a head with that tag and name. */
static baton_bytes find(const baton_event *event, uint8_t tag, const char *name) {
    uint64_t end = (uint64_t)event->head_offset + event->head_len;
    if (event->head_handle == BATON_NONE || end > event->head_capacity) return NOTHING;
    const uint8_t *at = (const uint8_t *)(uintptr_t)(event->head_base + event->head_offset);
    size_t left = event->head_len, wanted = strlen(name);
    while (left >= RECORD_PREFIX_BYTES) {
        size_t name_len = at[1], value_len = at[2] | (size_t)at[3] << 8;
        size_t whole = RECORD_PREFIX_BYTES + name_len + value_len;
        if (whole > left) break;
        const uint8_t *own = at + RECORD_PREFIX_BYTES;
        if (at[0] == tag && name_len == wanted && memcmp(own, name, wanted) == 0)
            return (baton_bytes){(const char *)own + name_len, value_len};
        at += whole;
        left -= whole;
    }
    return NOTHING;
}

baton_bytes baton_body(const baton_request *request) { return body_of(&request->event); }
baton_bytes baton_method(const baton_request *request) { return find(&request->event, METHOD, ""); }
baton_bytes baton_path(const baton_request *request) { return find(&request->event, PATH, ""); }
baton_bytes baton_query(const baton_request *request) { return find(&request->event, QUERY, ""); }
baton_bytes baton_param(const baton_request *request, const char *name) { return find(&request->event, PARAM, name); }
baton_bytes baton_request_header(const baton_request *request, const char *name) {
    return find(&request->event, HEADER, name);
}
uint16_t baton_operation(const baton_request *request) { return request->event.code; }

bool baton_is(baton_bytes bytes, const char *text) {
    size_t len = strlen(text);
    return bytes.len == len && (len == 0 || memcmp(bytes.at, text, len) == 0);
}

/* ---- buffers ---- */

int baton_alloc(baton_buffer *buffer, size_t bytes) {
    baton_grant grant = {0};
    int64_t got = baton_call_gate(BATON_GATE_ALLOC, bytes, 1, baton_address(&grant));
    if (got < 1) return got < 0 ? (int)got : -BATON_ENOSPC;
    size_t capacity = (size_t)grant.capacity;
    size_t start = capacity >= bytes && capacity - bytes >= BATON_HEADROOM_BYTES ? BATON_HEADROOM_BYTES : 0;
    *buffer = (baton_buffer){grant.handle, grant.generation, (uint8_t *)(uintptr_t)grant.base, capacity, start, 0};
    return 0;
}

void *baton_extend(baton_buffer *buffer, size_t len) {
    size_t end = buffer->start + buffer->len;
    if (buffer->handle == BATON_NONE || len > buffer->capacity - end) return NULL;
    buffer->len += len;
    return memset(buffer->base + end, 0, len);
}

int baton_append(baton_buffer *buffer, const void *bytes, size_t len) {
    size_t end = buffer->start + buffer->len;
    if (buffer->handle == BATON_NONE || len > buffer->capacity - end) return -BATON_ENOSPC;
    if (len > 0) memcpy(buffer->base + end, bytes, len);
    buffer->len += len;
    return 0;
}

int baton_append_text(baton_buffer *buffer, const char *text) { return baton_append(buffer, text, strlen(text)); }

void baton_free(baton_buffer *buffer) {
    if (buffer->handle != BATON_NONE) {
        baton_pair pair = {buffer->handle, buffer->generation};
        baton_call_gate(BATON_GATE_FREE, baton_address(&pair), 1, 0);
    }
    /* Without a place, nothing fits into it any more. */
    *buffer = (baton_buffer){BATON_NONE, 0, NULL, 0, 0, 0};
}

/* The buffer is somebody else's from here on. */
static void forget(baton_buffer *buffer) { *buffer = (baton_buffer){BATON_NONE, 0, NULL, 0, 0, 0}; }

/* ---- what goes out ---- */

/* Puts bytes into a message: in itself, or as an address that the runtime copies from. */
static void put_bytes(baton_event *out, const void *bytes, size_t len) {
    if (len == 0) return;
    out->body_len = len;
    if (len > BATON_SMALL_BYTES) {
        out->flags |= BATON_BYTES;
        out->body_offset = baton_address(bytes);
        return;
    }
    out->flags |= BATON_INLINE;
    memcpy(len > sizeof out->body_offset ? (void *)out->small : (void *)&out->body_offset, bytes, len);
}

static void put_buffer(baton_event *out, const baton_buffer *buffer) {
    out->body_handle = buffer->handle;
    out->body_generation = buffer->generation;
    out->body_offset = buffer->start;
    out->body_len = buffer->len;
}

/* Whether the payload of an event is this function's own, to be moved. */
static bool is_owned(const baton_event *event) {
    return event->body_handle != BATON_NONE && !(event->flags & (BATON_LEND | BATON_SHARE | BATON_INLINE));
}

/* Puts the payload of an event into a message. What moves is forgotten in the event, with a head in the same buffer. */
static void put_payload(baton_event *out, baton_event *from) {
    if (!is_owned(from)) {
        baton_bytes body = body_of(from);
        put_bytes(out, body.at, body.len);
        return;
    }
    out->body_handle = from->body_handle;
    out->body_generation = from->body_generation;
    out->body_offset = from->body_offset;
    out->body_len = from->body_len;
    if (from->head_handle == from->body_handle) {
        from->head_handle = BATON_NONE;
        from->head_len = 0;
    }
    from->body_handle = BATON_NONE;
    from->body_len = 0;
}

/* Gives up what would have moved in a message that was refused. What the runtime took all the same is no loss. */
static void give_up(const baton_event *out) {
    baton_event moved = *out;
    if (moved.flags & (BATON_LEND | BATON_SHARE)) moved.body_handle = BATON_NONE;
    baton_event_drop(&moved);
}

/* Writes the answer's headers in front of a payload with so much room there, or into a buffer of their own. */
static int put_head(const baton_request *request, baton_event *out, uint8_t *base, size_t room) {
    size_t len = request->head_len;
    if (len == 0) return 0;
    out->head_len = (uint32_t)len;
    if (base != NULL && room >= len && room <= UINT32_MAX) {
        memcpy(base + room - len, request->head, len);
        out->head_handle = out->body_handle;
        out->head_generation = out->body_generation;
        out->head_offset = (uint32_t)(room - len);
        return 0;
    }
    baton_buffer apart;
    int failed = baton_alloc(&apart, len);
    if (failed) return failed;
    baton_append(&apart, request->head, len);
    out->head_handle = apart.handle;
    out->head_generation = apart.generation;
    out->head_offset = (uint32_t)apart.start;
    return 0;
}

/* Sends an answer. */
static int answer(baton_request *request, const baton_event *out) {
    int64_t sent = request->is_answered ? -BATON_ESTALE : baton_call_gate(BATON_GATE_REPLY, baton_address(out), 0, 0);
    if (sent < 0) {
        give_up(out);
        return (int)sent;
    }
    request->is_answered = true;
    return 0;
}

static baton_event reply_to(const baton_request *request, uint16_t status) {
    baton_event out = baton_event_blank(&request->event, status);
    out.kind = BATON_REPLY;
    return out;
}

static bool is_token(const char *name) {
    return name[0] != 0 && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~")] == 0;
}

static bool is_value(const char *value) {
    for (; *value != 0; value++)
        if ((unsigned char)*value < ' ' ? *value != '\t' : *value == 0x7f) return false;
    return true;
}

int baton_header(baton_request *request, const char *name, const char *value) {
    size_t name_len = strlen(name), value_len = strlen(value);
    if (!is_token(name) || !is_value(value) || name_len > NAME_BYTES_MAX) return -BATON_EINVAL;
    size_t left = sizeof request->head - request->head_len;
    if (left < RECORD_PREFIX_BYTES + name_len || value_len > left - RECORD_PREFIX_BYTES - name_len) return -BATON_ENOSPC;
    uint8_t *at = request->head + request->head_len;
    uint8_t prefix[RECORD_PREFIX_BYTES] = {HEADER, (uint8_t)name_len, (uint8_t)value_len, (uint8_t)(value_len >> 8)};
    memcpy(at, prefix, sizeof prefix);
    memcpy(at + sizeof prefix, name, name_len);
    memcpy(at + sizeof prefix + name_len, value, value_len);
    request->head_len += sizeof prefix + name_len + value_len;
    return 0;
}

int baton_reply(baton_request *request, uint16_t status) {
    baton_event out = reply_to(request, status);
    int failed = put_head(request, &out, NULL, 0);
    return failed ? failed : answer(request, &out);
}

int baton_reply_buffer(baton_request *request, uint16_t status, baton_buffer *buffer) {
    if (buffer->handle == BATON_NONE) return -BATON_EINVAL;
    baton_event out = reply_to(request, status);
    put_buffer(&out, buffer);
    int failed = put_head(request, &out, buffer->base, buffer->start);
    if (failed) {
        baton_free(buffer);
        return failed;
    }
    forget(buffer);
    return answer(request, &out);
}

int baton_reply_bytes(baton_request *request, uint16_t status, const void *bytes, size_t len) {
    if (len == 0) return baton_reply(request, status);
    if (request->head_len > 0) {
        /* Both in one buffer. */
        baton_buffer buffer;
        int failed = baton_alloc(&buffer, len);
        if (failed) return failed;
        baton_append(&buffer, bytes, len);
        return baton_reply_buffer(request, status, &buffer);
    }
    baton_event out = reply_to(request, status);
    put_bytes(&out, bytes, len);
    return answer(request, &out);
}

int baton_reply_text(baton_request *request, uint16_t status, const char *text) {
    return baton_reply_bytes(request, status, text, strlen(text));
}

static int reply_with(baton_request *request, uint16_t status, baton_event *from) {
    if (!is_owned(from)) {
        baton_bytes body = body_of(from);
        return baton_reply_bytes(request, status, body.at, body.len);
    }
    baton_event out = reply_to(request, status);
    uint8_t *base = from->rights & BATON_WRITE ? (uint8_t *)(uintptr_t)from->body_base : NULL;
    size_t room = (size_t)from->body_offset;
    put_payload(&out, from);
    int failed = put_head(request, &out, base, room);
    if (failed) {
        give_up(&out);
        return failed;
    }
    return answer(request, &out);
}

int baton_reply_body(baton_request *request, uint16_t status) { return reply_with(request, status, &request->event); }

int baton_reply_answer(baton_request *request, uint16_t status, baton_answer *answer) {
    return reply_with(request, status, &answer->event);
}

int baton_fail(baton_request *request, uint16_t status, const char *text) {
    baton_event out = reply_to(request, status);
    out.flags = BATON_ERROR;
    put_bytes(&out, text, strlen(text));
    int failed = answer(request, &out);
    if (failed == 0 || request->is_answered) return failed;
    /* A text may be more than this function may send; its status alone is not. */
    out = reply_to(request, status);
    out.flags = BATON_ERROR;
    return answer(request, &out);
}

/* ---- calls ---- */

/* The position of a function in the manifest's `calls`, which the node tells in the environment. */
static int callee(const char *function) {
    const char *names = getenv("BATON_CALLS");
    size_t wanted = strlen(function);
    for (int index = 0; names != NULL && *names != 0; index++) {
        size_t len = strcspn(names, ",");
        if (len == wanted && memcmp(names, function, len) == 0) return index;
        names += names[len] == ',' ? len + 1 : len;
    }
    return -BATON_ENOENT;
}

static baton_event call_about(const baton_request *request, uint16_t operation) {
    baton_event out = baton_event_blank(&request->event, operation);
    out.kind = BATON_REQUEST;
    return out;
}

/* Why a call failed that nobody answered: the status of a failure that is not the function's own. */
static int64_t lost(uint16_t status) {
    return status == 429 ? -BATON_EAGAIN : status == 504 ? -BATON_ETIMEDOUT : -BATON_EHOSTUNREACH;
}

/* Waits for the end of a call that is on its way. */
static int64_t wait_for(baton_event *event) {
    int64_t ended = baton_call_gate(BATON_GATE_WAIT, event->tag, baton_address(event), 0);
    if (ended < 0 || !(event->flags & BATON_ERROR) || event->from != 0) return ended;
    ended = lost(event->code);
    baton_event_drop(event);
    return ended;
}

/* Calls with a message whose payload is there already, and waits. */
static int call(const char *function, baton_event *message, baton_answer *answer) {
    int index = callee(function);
    int64_t called = index;
    answer->event = *message;
    if (index >= 0)
        called = baton_call_gate(BATON_GATE_CALL, (uint64_t)index, baton_address(&answer->event), 0);
    if (called == BATON_PENDING)
        called = wait_for(&answer->event);
    else if (called < 0)
        give_up(message);
    if (called < 0) answer->event.body_handle = answer->event.head_handle = BATON_NONE;
    return (int)called;
}

int baton_call(baton_request *request, const char *function, uint16_t operation, const void *bytes, size_t len,
               baton_answer *answer) {
    baton_event message = call_about(request, operation);
    put_bytes(&message, bytes, len);
    return call(function, &message, answer);
}

int baton_call_buffer(baton_request *request, const char *function, uint16_t operation, baton_buffer *buffer,
                      baton_answer *answer) {
    if (buffer->handle == BATON_NONE) return -BATON_EINVAL;
    baton_event message = call_about(request, operation);
    put_buffer(&message, buffer);
    forget(buffer);
    return call(function, &message, answer);
}

int baton_call_lent(baton_request *request, const char *function, uint16_t operation, const baton_buffer *buffer,
                    baton_answer *answer) {
    if (buffer->handle == BATON_NONE) return -BATON_EINVAL;
    baton_event message = call_about(request, operation);
    put_buffer(&message, buffer);
    message.flags = BATON_LEND;
    message.rights = BATON_READ | BATON_PASS;
    return call(function, &message, answer);
}

int baton_call_body(baton_request *request, const char *function, uint16_t operation, baton_answer *answer) {
    baton_event message = call_about(request, operation);
    put_payload(&message, &request->event);
    return call(function, &message, answer);
}

bool baton_answer_failed(const baton_answer *answer) { return answer->event.flags & BATON_ERROR; }
uint16_t baton_answer_status(const baton_answer *answer) { return answer->event.code; }
baton_bytes baton_answer_body(const baton_answer *answer) { return body_of(&answer->event); }
baton_bytes baton_answer_header(const baton_answer *answer, const char *name) { return find(&answer->event, HEADER, name); }

void baton_answer_drop(baton_answer *answer) {
    baton_event_drop(&answer->event);
    answer->event.body_handle = answer->event.head_handle = BATON_NONE;
    answer->event.body_len = 0;
}

/* ---- clock and random ---- */

static uint64_t clock_ns(uint64_t clock) {
    uint64_t now[2] = {0, 0};
    baton_call_gate(BATON_GATE_CLOCK, clock, baton_address(now), 0);
    return now[0] * 1000000000u + now[1];
}

uint64_t baton_now_ns(void) { return clock_ns(MONOTONIC_CLOCK); }
uint64_t baton_wall_ns(void) { return clock_ns(WALL_CLOCK); }

int baton_random(void *bytes, size_t len) {
    for (size_t done = 0; done < len;) {
        int64_t got = baton_call_gate(BATON_GATE_RANDOM, baton_address((char *)bytes + done), len - done, 0);
        if (got <= 0) return got < 0 ? (int)got : -BATON_EAGAIN;
        done += (size_t)got;
    }
    return 0;
}

/* ---- the loop ---- */

static baton_handler serving;
/* The event that is being looked at, and the answer to it. */
static baton_request current;

static void take_event(void) {
    if (current.event.kind == BATON_REQUEST) {
        current.is_answered = false;
        current.head_len = 0;
        serving(&current);
        if (!current.is_answered) baton_fail(&current, 500, "the handler gave no answer");
    }
    /* What a request brought and was not moved on; nobody waits for what else brings something. */
    if (current.event.kind == BATON_REQUEST || current.event.kind == BATON_REPLY) baton_event_drop(&current.event);
}

#ifdef __wasm__

/* What this was built for, where the node looks before it compiles a module: a custom section, which is no memory. */
__asm__(".section .custom_section.baton.abi,\"\",@\n"
        ".int32 4\n"
        ".text\n");
_Static_assert(BATON_ABI_VERSION == 4u, "the number above is the version");

int baton_serve(baton_handler handler) {
    serving = handler;
    return 0;
}

__attribute__((export_name("baton_parcel"))) baton_event *baton_module_parcel(void) { return &current.event; }

__attribute__((export_name("baton_event"))) void baton_module_event(void) {
    /* Without a handler, main never served: that is no function. */
    if (serving == NULL) __builtin_trap();
    take_event();
}

#else

int baton_serve(baton_handler handler) {
    if (baton_open() != 0) {
#ifdef BATON_LINK
        fputs("this program is a Baton function: start it by `baton up` in its app's directory, on a node of its version\n",
              stderr);
#else
        fputs("this function runs in a compartment of a Baton node of this version: for isolation = \"process\" compile it with "
              "-DBATON_LINK and link it with libbaton.a; as a module it has \"wasm\"\n", stderr);
#endif
        return 2;
    }
    serving = handler;
    for (;;) {
        int64_t kind = baton_recv(&current.event);
        if (kind < 0) return 1;
        if (kind == BATON_SHUTDOWN) return 0;
        take_event();
    }
}

#endif

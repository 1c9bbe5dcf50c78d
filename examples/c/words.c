/* A function in C: counts the words of a text. The same source runs in a compartment and as a Wasm module.
 *
 *     POST /…/count     lines, words and bytes of the body, with a header that says how long that took
 *     POST /…/echo      the body, moved back
 *     POST /…/ask       has the functions that `calls` names count, in turn, and says what they said
 *     GET  /…/id        a random number
 *
 * A call from another function counts.
 */
#include <baton.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

static void count(baton_request *request) {
    uint64_t begun_ns = baton_now_ns();
    baton_bytes text = baton_body(request);
    size_t lines = 0, words = 0;
    bool is_inside = false;
    for (size_t at = 0; at < text.len; at++) {
        bool is_word = !isspace((unsigned char)text.at[at]);
        lines += text.at[at] == '\n';
        words += is_word && !is_inside;
        is_inside = is_word;
    }
    char line[96], took[32];
    snprintf(line, sizeof line, "%zu lines, %zu words, %zu bytes\n", lines, words, text.len);
    snprintf(took, sizeof took, "%llu", (unsigned long long)(baton_now_ns() - begun_ns));
    baton_header(request, "content-type", "text/plain");
    baton_header(request, "x-took-ns", took);
    baton_log('I', line);
    baton_reply_text(request, 200, line);
}

/* Asks one function, and appends what it says. The text is lent: it is ours again when the function has answered. */
static int ask_one(baton_request *request, const char *function, const baton_buffer *text, baton_buffer *said) {
    baton_answer answer;
    int failed = baton_call_lent(request, function, 0, text, &answer);
    if (failed) return failed;
    baton_bytes body = baton_answer_body(&answer);
    failed = baton_append_text(said, function);
    bool is_text = baton_is(baton_answer_header(&answer, "content-type"), "text/plain");
    if (!failed) failed = baton_append_text(said, baton_answer_failed(&answer) ? " fails: " : is_text ? ": " : " says no text: ");
    if (!failed) failed = baton_append(said, body.at, body.len);
    baton_answer_drop(&answer);
    return failed;
}

static void ask(baton_request *request) {
    baton_buffer text, said;
    baton_bytes body = baton_body(request);
    if (baton_alloc(&text, body.len) != 0) {
        baton_fail(request, 503, "there is no memory for the text");
        return;
    }
    baton_append(&text, body.at, body.len);
    int failed = baton_alloc(&said, 4096);
    const char *names = getenv("BATON_CALLS");
    while (!failed && names != NULL && *names != 0) {
        char function[64];
        size_t len = strcspn(names, ",");
        snprintf(function, sizeof function, "%.*s", (int)len, names);
        failed = ask_one(request, function, &text, &said);
        names += names[len] == ',' ? len + 1 : len;
    }
    baton_free(&text);
    if (failed) {
        char why[64];
        snprintf(why, sizeof why, "asking failed: %d", failed);
        baton_fail(request, 502, why);
        return;
    }
    baton_reply_buffer(request, 200, &said);
}

static void id(baton_request *request) {
    uint8_t bytes[16];
    char text[2 * sizeof bytes + 1];
    if (baton_random(bytes, sizeof bytes) != 0) {
        baton_fail(request, 500, "there is no randomness");
        return;
    }
    for (size_t at = 0; at < sizeof bytes; at++) snprintf(text + 2 * at, 3, "%02x", bytes[at]);
    baton_reply_text(request, 201, text);
}

static void serve(baton_request *request) {
    baton_bytes what = baton_param(request, "what");
    if (what.len == 0 || baton_is(what, "count")) count(request);
    else if (baton_is(what, "echo")) baton_reply_body(request, 200);
    else if (baton_is(what, "ask")) ask(request);
    else if (baton_is(what, "id")) id(request);
    else baton_fail(request, 404, "there is count, echo, ask and id");
}

int main(void) { return baton_serve(serve); }

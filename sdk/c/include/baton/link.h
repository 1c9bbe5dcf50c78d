/* libbaton: the link of a function in a process of its own. Functions in C are written with <baton.h>, which uses this by itself
 * if it is compiled with -DBATON_LINK; this is for runtimes of other languages.
 *
 * Messages are those of <baton/gates.h>. One thread uses the link, the one that opened it; to others everything but
 * baton_link_wake() gives -BATON_EPERM. Results are 0 or more, or a negative number of BATON_E….
 */
#ifndef BATON_LINK_H
#define BATON_LINK_H

#include <baton/gates.h>

/* What this header was written for: major << 16 | minor << 8 | patch. */
#define BATON_LINK_VERSION 0x010000u

/* The version of the library. It fits if the major number is the same and the minor one no smaller. */
uint32_t baton_link_version(void);
/* The version of the messages: must equal BATON_ABI_VERSION. */
uint32_t baton_link_abi(void);

/* Takes what the node sends first over descriptor 3, and tells the node that this function can take requests. */
int64_t baton_link_open(void);
/* Why it could not be opened, for people. */
const char *baton_link_error(void);
/* Requests that may be in hand at a time: no more are given out. */
int64_t baton_link_concurrency(void);

/* Looks around once: 1 with an event, 0 if there is none. A request, whose tag answers and calls name; the answer of a call, by
 * the call's tag; a cancellation, by the request's tag, which still has to be answered; a shutdown, once nothing is in hand. */
int64_t baton_link_next(baton_event *event);
/* Sleeps until there may be something, or baton_link_wake(), at most so many nanoseconds, for ever if negative. */
int64_t baton_link_sleep(int64_t timeout_ns);
/* From any thread. */
void baton_link_wake(void);

/* For loops that wait for descriptors: one that becomes readable when there is something to do, if baton_link_arm() gave 1 (0: there
 * is something now). After the wait, whatever ended it, baton_link_disarm(). */
int64_t baton_link_fd(void);
int64_t baton_link_arm(void);
int64_t baton_link_disarm(void);
/* Nanoseconds until a call's own time is over, -1 for none: a loop of descriptors waits no longer. */
int64_t baton_link_deadline(void);

/* Answers the request of the event's tag, once. `head` is NULL or encoded headers, `payload` NULL or bytes that are copied; else
 * the event says what is sent. What moves is gone. If this fails, nothing was sent and nothing is gone. */
int64_t baton_link_reply(const baton_event *event, const void *head, size_t head_len, const void *payload, size_t payload_len);
/* Calls function number `callee` of BATON_CALLS for the request of the event's tag (0: for none), until the event's deadline (0:
 * none of its own). BATON_PENDING, with the call's tag in the event. A failure that is not the function's own has `from` 0. */
int64_t baton_link_call(uint64_t callee, baton_event *event, const void *head, size_t head_len, const void *payload,
                        size_t payload_len);
/* Waits for the end of a call; no requests come meanwhile. */
int64_t baton_link_wait(uint32_t tag, baton_event *answer);
/* Nobody waits for a call any more. */
int64_t baton_link_cancel(uint32_t tag);

/* Payloads, by handle and generation. All of a buffer that was taken may be written. What is lent cannot be moved, and goes back
 * when the last call that it is lent to is over. */
int64_t baton_link_alloc(uint64_t bytes, baton_grant *grant);
int64_t baton_link_free(uint32_t handle, uint32_t generation);
int64_t baton_link_freeze(uint32_t handle, uint32_t generation);
int64_t baton_link_narrow(uint32_t handle, uint32_t generation, uint64_t offset, uint64_t len);
int64_t baton_link_revoke(uint32_t handle, uint32_t generation);

/* The same as gates; opens the link. NULL where there is none. */
const baton_page *baton_link_page(void);

#endif

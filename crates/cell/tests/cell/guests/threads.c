/* A guest with POSIX threads. The first byte of a request says what they do; the answer says how it went. */
#include <baton/gates.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 8, ROUNDS = 2000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn, counted;
static _Thread_local int own = 17;
static atomic_long background, spins;
static atomic_int flag;
static volatile uintptr_t nowhere = 8;
static const baton_event *asked;

static void nap(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void *count(void *amount) {
    for (long i = 0; i < (long)amount; i++) {
        pthread_mutex_lock(&lock);
        int before = counted;
        if (i % 64 == 0) sched_yield();
        counted = before + 1;
        pthread_mutex_unlock(&lock);
    }
    return amount;
}

/* Two of these hand the turn to one another. */
static void *pingpong(void *me) {
    int number = (int)(long)me;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        while (turn % 2 != number) pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void *remember(void *value) {
    if (own != 17) return (void *)-1;
    own = (int)(long)value;
    errno = own;
    for (int i = 0; i < 50; i++) {
        sched_yield();
        if (own != (int)(long)value || errno != own) return (void *)-1;
    }
    return (void *)(long)own;
}

static void *doze(void *milliseconds) {
    for (int i = 0; i < 5; i++) {
        nap((long)milliseconds);
        background++;
    }
    return NULL;
}

static void *spin(void *unused) {
    (void)unused;
    for (;;) spins++;
    return NULL;
}

static void *raise_flag(void *unused) {
    (void)unused;
    flag = 1;
    return NULL;
}

/* Sums in vector registers that the compiler keeps there across interruptions. */
static void *add_up(void *seed) {
    double x[8], start = (double)(long)seed;
    for (int k = 0; k < 8; k++) x[k] = start + k;
    for (long i = 0; i < 30000000; i++)
        for (int k = 0; k < 8; k++) x[k] = x[k] * 0.5 + start;
    double sum = 0;
    for (int k = 0; k < 8; k++) sum += x[k];
    return (void *)(long)(sum / start + 0.5);
}

static void *leave(void *how) {
    if (how) exit(7);
    *(volatile char *)nowhere = 1;
    return NULL;
}

static void *call_back(void *text) {
    baton_event answer;
    int64_t called = baton_event_call_bytes(asked, 0, text, strlen(text), &answer);
    if (called != 0) return (void *)called;
    const char *body = baton_event_body(&answer);
    void *result = (void *)(long)(answer.body_len == strlen(text) && memcmp(body, text, strlen(text)) == 0);
    baton_event_drop(&answer);
    return result;
}

/* Calls one that answers late or never, and waits; gives how the waiting went. */
static void *call_late(void *text) {
    baton_event answer;
    int64_t called = baton_event_call_bytes(asked, 0, text, strlen(text), &answer);
    if (called != 0) return (void *)called;
    const char *body = baton_event_body(&answer);
    long len = (long)answer.body_len, failed = answer.flags & BATON_ERROR ? 1000 + answer.code : 0;
    int is_late = len == 4 && memcmp(body, "late", 4) == 0;
    baton_event_drop(&answer);
    return (void *)(failed ? failed : is_late);
}

/* What other threads do while some wait. */
static void *go_on(void *unused) {
    (void)unused;
    long rounds = 0;
    while (!flag) {
        nap(1);
        rounds++;
    }
    return (void *)rounds;
}

static void *answer_late(void *copy) {
    const char *body = baton_event_body(copy);
    nap(((const baton_event *)copy)->body_len > 1 && body[1] == 'n' ? 2000 : 20);
    baton_event_reply_bytes(copy, 200, "late", 4);
    free(copy);
    return NULL;
}

static void *receive_too(void *unused) {
    (void)unused;
    baton_event event;
    return (void *)baton_recv(&event);
}

static long joined(pthread_t thread) {
    void *value = NULL;
    pthread_join(thread, &value);
    return (long)value;
}

static pthread_t begin(void *(*what)(void *), long argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, what, (void *)argument) != 0) abort();
    return thread;
}

static int two(char *out, void *(*what)(void *), long first, long second) {
    pthread_t one = begin(what, first), other = begin(what, second);
    long a = joined(one), b = joined(other);
    return sprintf(out, "%ld %ld", a, b);
}

static int act(const baton_event *request, char what, char *out) {
    pthread_t threads[WORKERS];
    switch (what) {
    case 'j': /* join, with a mutex */
        counted = 0;
        for (long i = 0; i < WORKERS; i++) threads[i] = begin(count, 1000 + i);
        long sum = 0;
        for (int i = 0; i < WORKERS; i++) sum += joined(threads[i]);
        return sprintf(out, "%d %ld", counted, sum);
    case 'p':
        turn = 0;
        two(out, pingpong, 0, 1);
        return sprintf(out, "%d", turn);
    case 't':
        own = 17;
        two(out, remember, 5, 6);
        return sprintf(out + strlen(out), " %d", own) + (int)strlen("5 6");
    case 's': /* sleeps on behind the answer */
        pthread_detach(begin(doze, 10));
        return sprintf(out, "begun");
    case 'b':
        return sprintf(out, "%ld", background);
    case 'r': /* runs on behind the answer */
        pthread_detach(begin(spin, 0));
        return sprintf(out, "begun");
    case 'q': {
        long before = spins;
        nap(30);
        return sprintf(out, "%s", spins > before ? "spins" : "stands");
    }
    case 'w': { /* waits without a call for what another thread does */
        flag = 0;
        pthread_t other = begin(raise_flag, 0);
        while (!flag) {}
        joined(other);
        return sprintf(out, "seen");
    }
    case 'v':
        return two(out, add_up, 3, 11);
    case 'x':
    case 'g':
        joined(begin(leave, what == 'g'));
        return sprintf(out, "impossible");
    case 'l':
        joined(begin(spin, 0));
        return sprintf(out, "impossible");
    case 'd': /* waits for itself */
        pthread_mutex_lock(&lock);
        pthread_mutex_lock(&lock);
        return sprintf(out, "impossible");
    case 'c':
        asked = request;
        return two(out, call_back, (long)"!one", (long)"!other");
    case 'C': { /* others go on while two wait */
        asked = request;
        flag = 0;
        pthread_t other = begin(go_on, 0);
        int len = two(out, call_late, (long)"a", (long)"a");
        flag = 1;
        return len + sprintf(out + len, " %s", joined(other) > 5 ? "went on" : "stood still");
    }
    case 'N': /* one that never answers */
        asked = request;
        return two(out, call_late, (long)"an", (long)"a");
    case 'm': { /* more threads than there may be */
        pthread_t many[100];
        int made = 0, failed = 0;
        for (int i = 0; i < 100 && !failed; i++) {
            failed = pthread_create(&many[i], NULL, doze, (void *)1);
            made += !failed;
        }
        for (int i = 0; i < made; i++) joined(many[i]);
        return sprintf(out, "%d %s", made, failed == EAGAIN ? "EAGAIN" : "?");
    }
    default:
        return sprintf(out, "what?");
    }
}

int main(void) {
    baton_event event;
    char out[256];
    if (baton_open() != 0) return 2;
    const char *early = getenv("EARLY");
    if (early && *early == 's') begin(doze, 10);
    if (early && *early == 'r') begin(spin, 0);
    if (early && *early == 'l') spin(NULL);
    if (early && *early == 'w') nap(60000);
    if (early) nap(5);
    for (;;) {
        int64_t kind = baton_recv(&event);
        if (kind < 0) return 4;
        if (kind != BATON_REQUEST) continue;
        char what = event.body_len ? *(const char *)baton_event_body(&event) : 0;
        if (what == 'a') {
            baton_event *copy = aligned_alloc(64, sizeof *copy);
            *copy = event;
            pthread_detach(begin(answer_late, (long)copy));
        } else if (what == 'u') {
            pthread_detach(begin(answer_late, (long)memcpy(aligned_alloc(64, sizeof event), &event, sizeof event)));
            /* This thread leaves the receive gate to another one. */
            long got = joined(begin(receive_too, 0));
            return (int)got;
        } else if (what == 'z') { /* the thread that receives ends */
            baton_event_reply_bytes(&event, 200, "gone", 4);
            pthread_detach(begin(receive_too, 0));
            pthread_exit(NULL);
        } else {
            int len = act(&event, what, out);
            baton_event_reply_bytes(&event, 200, out, (size_t)len);
        }
    }
}

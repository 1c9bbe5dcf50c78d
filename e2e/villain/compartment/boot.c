/* Misbehaves before its first request: BOOT in the environment says how, WHERE is an address. */
#include "villain.h"

#include <signal.h>
#include <sys/syscall.h>

static void tell(const order *o) {
    (void)o;
    say("%s", answer_text + sizeof answer_text / 2);
}

static const attack attacks[] = {{"tell", tell}, {NULL, NULL}};

int main(void) {
    const char *boot = getenv("BOOT"), *where = getenv("WHERE");
    uint64_t at = 0;
    char *told = answer_text + sizeof answer_text / 2;
    if (baton_open() != 0) return 2;
    if (where != NULL) at = gates_at() + strtoul(where, NULL, 16);
    switch (boot != NULL ? *boot : 0) {
    case 'e': return 0;
    case 'a': abort();
    case 'r': say("%lx", *(volatile uint64_t *)at); break;
    case 'w': *(volatile uint64_t *)at = 0; break;
    case 'j': ((void (*)(void))at)(); break;
    case 'p': *(volatile uint64_t *)POOL_AT = 1; break;
    case 'n': *(volatile uint64_t *)(SEATS_AT + SEAT_BYTES) = 1; break; /* the next function's seat */
    case 's': /* a frame to return from */
        raw_syscall(SYS_rt_sigreturn, 0, 0, 0, 0, 0, 0);
        break;
    case 'k': raw_syscall(SYS_kill, 0, SIGKILL, 0, 0, 0, 0); break;
    case 'z': sleep(3600); break;
    case 'd': pause(); break;
    case 'g': { /* gates that there are only for requests */
        static uint64_t block[64];
        for (unsigned number = 0; number < BATON_GATES; number++)
            if (number != BATON_GATE_RECV)
                told += sprintf(told, "%ld ",
                                gate(number, number == BATON_GATE_LOG ? 'I' : (uint64_t)block,
                                     number == BATON_GATE_RANDOM ? 8 : (uint64_t)block, 8));
        break;
    }
    case 'v': /* receives into nothing */
        gate(BATON_GATE_RECV, 0, 0, 0);
        return 3;
    }
    return serve(attacks);
}

/* Signals: to oneself, to others, handlers that want to run. */
#include "villain.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

static volatile int handled;

static void handler(int signal) {
    (void)signal;
    handled = 1;
}

/* raise SIGNAL */
static void raise_it(const order *o) {
    raise((int)o->words[0]);
    say("lives");
}

/* handle SIGNAL: with a handler for it. */
static void handle(const order *o) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    int set = sigaction((int)o->words[0], &action, NULL);
    raise((int)o->words[0]);
    say("%d %d", set, handled);
}

/* fault KIND: with handlers for what comes of it. */
static void fault(const order *o) {
    static const int all[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sigaction(all[i], &action, NULL);
    sigaltstack(&alternate, NULL);
    volatile int zero = 0;
    switch (o->words[0]) {
    case 0: __asm__ volatile("movl $1, 8"); break;
    case 1: __asm__ volatile("xor %%edx, %%edx\n mov $1, %%eax\n idivl %0" ::"m"(zero) : "rax", "rdx"); break;
    case 2: __asm__ volatile("ud2"); break;
    case 3: __asm__ volatile("int3"); break;
    case 4: __asm__ volatile("int $0x31"); break;
    case 5: __asm__ volatile("hlt"); break;
    case 6: __asm__ volatile(".byte 0xf1"); break; /* icebp */
    case 7: __asm__ volatile("pushfq\n orl $0x40000, (%%rsp)\n popfq\n mov 1(%%rsp), %%rax" ::: "rax", "memory"); break;
    case 8: __asm__ volatile("mov $0x8000000000000000, %%rax\n jmp *%%rax" ::: "rax"); break;
    case 9: __asm__ volatile("xor %%ecx, %%ecx\n rdmsr" ::: "rax", "rcx", "rdx"); break;
    case 10: __asm__ volatile("mov $0x200000000000, %%rsp\n push %%rax" ::: "memory"); break;
    case 11: __asm__ volatile("mov $8, %%rsp\n push %%rax" ::: "memory"); break;
    case 12: __asm__ volatile("mov $0xdead000000000000, %%rax\n mov %%rax, %%rsp\n syscall\n ud2" ::: "memory"); break;
    case 13: /* a tile register, for which nobody asked the system */
        __asm__ volatile(".byte 0xc4, 0xe2, 0x7b, 0x49, 0xc0"); /* tilezero tmm0 */
        break;
    case 14: __asm__ volatile("xor %%eax, %%eax\n mov %%rax, %%cr3" ::: "rax"); break;
    case 15: __asm__ volatile("in $0x60, %%al" ::: "rax"); break;
    case 16: __asm__ volatile("vmcall" ::: "rax"); break;
    }
    say("%d %d", handled, zero);
}

/* stack AT: a system call, a tick and a fault with the stack pointer there. */
static void stack(const order *o) {
    uint64_t result;
    __asm__ volatile("mov %%rsp, %%rbx\n mov %1, %%rsp\n mov $39, %%eax\n syscall\n mov %%rbx, %%rsp"
                     : "=a"(result) : "r"(o->words[0]) : "rbx", "rcx", "r11", "memory");
    uint64_t spins = o->words[1];
    __asm__ volatile("mov %%rsp, %%rbx\n mov %1, %%rsp\n1: dec %0\n jnz 1b\n mov %%rbx, %%rsp"
                     : "+r"(spins) : "r"(o->words[0]) : "rbx", "memory", "cc");
    if (o->words[2] != 0)
        __asm__ volatile("mov %0, %%rsp\n mov $39, %%eax\n ud2" ::"r"(o->words[0]) : "memory");
    say("%lu", result);
}

/* timers: signals in the future. */
static void timers(const order *o) {
    (void)o;
    struct itimerval soon = {{0, 1000}, {0, 1000}};
    struct sigevent event_of = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    int timer;
    say("%ld %ld %ld %ld", raw_syscall(SYS_setitimer, 0, (uint64_t)&soon, 0, 0, 0, 0), raw_syscall(SYS_alarm, 1, 0, 0, 0, 0, 0),
        raw_syscall(SYS_timer_create, 1, (uint64_t)&event_of, (uint64_t)&timer, 0, 0, 0),
        raw_syscall(SYS_signalfd4, -1ul, (uint64_t)answer_text, 8, 0, 0, 0));
}

static const attack attacks[] = {{"raise", raise_it}, {"handle", handle}, {"fault", fault}, {"stack", stack}, {"timers", timers}, {NULL, NULL}};

int main(void) { return serve(attacks); }

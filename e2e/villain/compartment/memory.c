/* Reading, writing and running memory that is not one's own. */
#include "villain.h"

/* read AT */
static void read_at(const order *o) { say("%lx", *(volatile uint64_t *)o->words[0]); }

/* write AT WHAT */
static void write_at(const order *o) {
    *(volatile uint64_t *)o->words[0] = o->words[1];
    say("written");
}

/* run AT */
static void run_at(const order *o) {
    ((void (*)(void))o->words[0])();
    say("came back");
}

/* Writes what is there already: a change of nothing, but a write all the same. */
static void rewrite(const order *o) {
    __asm__ volatile("lock orq $0, (%0)" ::"r"(o->words[0]) : "memory");
    say("written");
}

/* For each way to touch memory that is not a plain load or store. */
static void touch(const order *o) {
    void *at = (void *)o->words[1];
    uint64_t what = 0;
    switch (o->words[0]) {
    case 0: /* as the processor's string instructions do */
        __asm__ volatile("rep movsb" : "+S"(at), "+D"((void *){&what}), "+c"((uint64_t){8})::"memory");
        break;
    case 1: /* a whole vector register */
        __asm__ volatile("movups (%0), %%xmm0\n movq %%xmm0, %1" ::"r"(at), "m"(what) : "xmm0", "memory");
        break;
    case 2: /* the floating-point unit's state */
        __asm__ volatile("fxsave (%0)" ::"r"((uint64_t)at & ~15ul) : "memory");
        break;
    case 3: /* all of the state */
        __asm__ volatile("xsave (%0)" ::"r"((uint64_t)at & ~63ul), "a"(-1), "d"(-1) : "memory");
        break;
    case 4: /* past the caches */
        __asm__ volatile("movnti %0, (%1)" ::"r"(what), "r"(at) : "memory");
        break;
    case 5: /* through a stack pointer */
        __asm__ volatile("mov %%rsp, %%rbx\n mov %0, %%rsp\n pop %%rax\n mov %%rbx, %%rsp" ::"r"(at) : "rax", "rbx", "memory");
        break;
    case 6: /* a call pushes its return address */
        __asm__ volatile("mov %%rsp, %%rbx\n mov %0, %%rsp\n call 1f\n1: add $8, %%rsp\n mov %%rbx, %%rsp" ::"r"(at) : "rbx", "memory");
        break;
    case 7: /* with FS as its base: the system lets no guest move that, but the address is a sum */
        __asm__ volatile("rdfsbase %%rax\n sub %%rax, %0\n mov %%fs:(%0), %%rax" : "+r"(at)::"rax", "memory");
        break;
    case 8: /* an exchange */
        __asm__ volatile("xchg %0, (%1)" : "+r"(what) : "r"(at) : "memory");
        break;
    case 9: /* out of the caches */
        __asm__ volatile("clflush (%0)" ::"r"(at) : "memory");
        break;
    case 11: /* where the system does it for the processor: the table of descriptors */
        __asm__ volatile("sgdt (%0)" ::"r"(at) : "memory");
        break;
    default: /* prefetches fault nowhere and say nothing */
        __asm__ volatile("prefetcht0 (%0)\n prefetchw (%0)" ::"r"(at) : "memory");
    }
    say("touched");
}

static int deeper(int depth, volatile char *above) {
    volatile char here[4096];
    here[0] = above[0];
    return depth <= 0 ? here[0] : deeper(depth - 1, here) + 1;
}

static void overflow(const order *o) {
    volatile char top[1] = {0};
    say("%d", deeper((int)o->words[0], top));
}

/* Writes its own code, runs its own data. */
static void own(const order *o) {
    static uint8_t code[16] __attribute__((aligned(16))) = {0xc3};
    uint8_t on_stack[16] = {0xc3};
    uint8_t *on_heap = malloc(16);
    *on_heap = 0xc3;
    switch (o->words[0]) {
    case 0: *(volatile uint8_t *)read_at = 0xc3; break;
    case 1: ((void (*)(void))code)(); break;
    case 2: ((void (*)(void))on_stack)(); break;
    case 3: ((void (*)(void))on_heap)(); break;
    case 4: *(volatile char *)"constant" = 'C'; break;
    default: *(volatile char *)NULL = 0;
    }
    say("done");
}

static void where(const order *o) {
    (void)o;
    say("%lx %lx", own_seat(), (uint64_t)&served);
}

static const attack attacks[] = {{"read", read_at}, {"write", write_at}, {"rewrite", rewrite}, {"run", run_at}, {"touch", touch},
                                 {"overflow", overflow}, {"own", own}, {"where", where}, {NULL, NULL}};

int main(void) { return serve(attacks); }

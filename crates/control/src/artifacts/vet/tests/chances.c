/* Code that has the bytes of forbidden instructions by chance, wherever a compiler or linker may leave them, and what it
 * computes: `report` writes it down. With -DSERVE it is a function of Baton, without it prints its report. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Displacements: `xrstors` ahead into `area`, and by 0x10fef1 back into code, which is `wrpkru`. Compilers have to take this
 * one from memory, so that it is in no instruction of theirs. */
static volatile uint64_t ahead = 0x18c70f;
static char area[4 << 20];
extern char after_lea[], after_load[], after_store[], after_compare[], after_sse[], after_call[], after_jump[];

#define FUNCTION(name, body) ".globl " name "\n.type " name ",@function\n" name ":\n" body "\n.size " name ",.-" name "\n"
#define APART ".balign 16, 0xcc\n"
#define DISPLACED(opcode, label) ".byte " opcode "\n.long 0x18c70f\n" label ":\n"
/* At this distance in front of the end of the next instruction lies `to`. */
#define BEHIND(to, bytes) ".org " to " + 0x10fef1 - " bytes ", 0xcc\n"

asm(".text\n"
    FUNCTION("far_call", "lea 1(%rdi),%rax\nret")
    ".balign 32, 0xcc\n"
    FUNCTION("far_equal", "mov $101,%eax\nret")
    ".balign 32, 0xcc\n"
    FUNCTION("far_jump", "mov $102,%eax\nret")
    BEHIND("far_call", "9")
    FUNCTION("do_call_back", "sub $8,%rsp\n.byte 0xe8\n.long 0xffef010f\nadd $8,%rsp\nret")
    BEHIND("far_equal", "9")
    FUNCTION("do_if_equal", "cmp $5,%edi\n.byte 0x0f,0x84\n.long 0xffef010f\nmov $103,%eax\nret")
    BEHIND("far_jump", "5")
    FUNCTION("do_jump_back", ".byte 0xe9\n.long 0xffef010f\n")
    APART FUNCTION("do_lea", DISPLACED("0x48,0x8d,0x05", "after_lea") "ret")
    APART FUNCTION("do_load", DISPLACED("0x48,0x8b,0x05", "after_load") "ret")
    APART FUNCTION("do_store", DISPLACED("0x89,0x3d", "after_store") "ret")
    APART FUNCTION("do_compare", DISPLACED("0x48,0x3b,0x3d", "after_compare") "seta %al\nmovzbl %al,%eax\nret")
    APART FUNCTION("do_sse", DISPLACED("0xf3,0x0f,0x6f,0x05", "after_sse") "movq %xmm0,%rax\nret")
    FUNCTION("do_call", "sub $8,%rsp\n" DISPLACED("0xff,0x15", "after_call") "add $8,%rsp\nret")
    APART FUNCTION("do_jump", DISPLACED("0xff,0x25", "after_jump"))
    FUNCTION("do_set", "stc\nmov $0xef010f,%eax\nadc $0,%eax\nret")
    FUNCTION("do_set_wide", "movabs $0xef010f12345678,%rax\nret")
    FUNCTION("do_set_negative", "mov $-0x10fef1,%r11\nmov %r11,%rax\nret")
    FUNCTION("do_set_small", ".byte 0x41,0xc7,0xc3\n.long 0xffef010f\nmov %r11,%rax\nret")
    FUNCTION("do_two", "mov $0x0f000000,%eax\n.byte 0x01,0xef\nadd %edi,%eax\nret")
    FUNCTION("do_two_later", "mov %edi,%eax\nmov $0xae0f0000,%ecx\n.byte 0x2d\n.long 7\nadd %ecx,%eax\nret"));

extern uint64_t do_lea(void), do_load(void), do_compare(uint64_t), do_sse(void), do_call(uint64_t), do_jump(uint64_t),
    do_set(void), do_set_wide(void), do_set_negative(void), do_set_small(void), do_two_later(uint32_t), do_call_back(uint64_t),
    do_if_equal(uint32_t), do_jump_back(void);
extern void do_store(uint32_t);

/* It uses a register that functions leave as it was. */
static uint64_t do_two_with(uint32_t added) {
    uint64_t result;
    asm volatile("push %%rbp\nmov $3,%%ebp\ncall do_two\npop %%rbp" : "=a"(result), "+D"(added) : : "memory", "cc");
    return result;
}

static uint64_t twice(uint64_t number) { return 2 * number; }

/* Where an instruction finds its operand. */
static void *operand(char *after) { return after + ahead; }

static void put(char *after, uint64_t word) { memcpy(operand(after), &word, sizeof word); }

static int report(char *out) {
    uint64_t stored = 0;
    put(after_load, 11);
    put(after_compare, 12);
    put(after_sse, 13);
    put(after_call, (uint64_t)twice);
    put(after_jump, (uint64_t)twice);
    do_store(14);
    memcpy(&stored, operand(after_store), 4);
    int inside = (char *)do_lea() == operand(after_lea) && (char *)do_lea() >= area && (char *)do_lea() < area + sizeof area;
    return sprintf(out, "%d %lu %lu %lu%lu %lu %lu %lu %lx %lx %lx %lx %lx %lx %lu %lu %lu %lu", inside, do_load(), stored,
                   do_compare(12), do_compare(13), do_sse(), do_call(21), do_jump(22), do_set(), do_set_wide(),
                   do_set_negative(), do_set_small(), do_two_with(4), do_two_later(9), do_call_back(30), do_if_equal(5),
                   do_if_equal(6), do_jump_back());
}

#ifdef SERVE
#include <baton/gates.h>

int main(void) {
    baton_event event;
    char out[512];
    if (baton_open() != 0) return 2;
    for (;;) {
        int64_t kind = baton_recv(&event);
        if (kind == BATON_REQUEST) baton_event_reply_bytes(&event, 200, out, (size_t)report(out));
        else if (kind < 0) return 4;
    }
}
#else
int main(void) {
    char out[512];
    report(out);
    return puts(out) < 0;
}
#endif

/* System calls: every number, every way to make one, other people's memory as arguments. */
#define _GNU_SOURCE
#include "villain.h"

#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

/* call NUMBER A B C D E F */
static void any(const order *o) {
    const uint64_t *w = o->words;
    say("%ld", raw_syscall(w[0], w[1], w[2], w[3], w[4], w[5], w[6]));
}

static int ends(uint64_t number) {
    switch (number) {
    case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: /* the guest's own end */
    case SYS_pause: case SYS_select: case SYS_rt_sigsuspend: /* waits for ever */
        return 1;
    }
    return 0;
}

/* all FROM TO BITS A B C D E F: every number with the same arguments; those that end the guest are left out. */
static void all(const order *o) {
    const uint64_t *w = o->words;
    for (uint64_t number = w[0]; number < w[1]; number++) {
        if (w[2] == 0 && ends(number)) continue;
        int64_t result = raw_syscall(number | w[2], w[3], w[4], w[5], w[6], w[7], w[8]);
        if (result < -4095 || result >= 0) say("%lu=%lx ", number, result);
        /* Whatever was opened is closed again, so that there is always room for more; not what it started with. */
        if (result > 2 && result < 1024) raw_syscall(SYS_close, (uint64_t)result, 0, 0, 0, 0, 0);
    }
}

/* legacy NUMBER B C D: by the 32-bit way in. */
static void legacy(const order *o) {
    uint64_t result = o->words[0];
    __asm__ volatile("int $0x80" : "+a"(result) : "b"(o->words[1]), "c"(o->words[2]), "d"(o->words[3]) : "memory", "r8", "r9", "r10", "r11");
    say("%lx", result);
}

static void enter(const order *o) {
    uint64_t result = o->words[0];
    __asm__ volatile("push %%rbp\n mov %%rsp, %%rbp\n sysenter\n pop %%rbp" : "+a"(result)::"memory", "rcx", "rdx");
    say("%lx", result);
}

/* vsyscall ADDRESS: the page that serves three calls without an instruction for it. */
static void vsyscall(const order *o) {
    static uint64_t out[8];
    int64_t (*call)(void *, void *) = (int64_t (*)(void *, void *))o->words[0];
    say("%lx", call(o->words[1] != 0 ? (void *)o->words[1] : out, NULL) >= 0 ? 0ul : 1ul);
}

/* far SELECTOR ADDRESS: a far jump, to 32-bit code above all. */
static void far(const order *o) {
    struct {
        uint64_t offset;
        uint16_t selector;
    } __attribute__((packed)) to = {o->words[1], (uint16_t)o->words[0]};
    __asm__ volatile("rex64 ljmp *%0" ::"m"(to));
    say("came back");
}

/* executable KIND: memory to run, in every way. */
static void executable(const order *o) {
    (void)o;
    uint64_t page = (uint64_t)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int rwx = PROT_READ | PROT_WRITE | PROT_EXEC, anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    int64_t zero = open("/dev/zero", O_RDWR), self = open("/proc/self/exe", O_RDONLY);
    int64_t memory = raw_syscall(SYS_memfd_create, (uint64_t)"code", 0, 0, 0, 0, 0);
    int64_t results[] = {
        raw_syscall(SYS_mmap, 0, PAGE, rwx, anonymous, -1ul, 0),
        raw_syscall(SYS_mmap, 0, PAGE, PROT_EXEC, anonymous, -1ul, 0),
        raw_syscall(SYS_mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1ul, 0),
        raw_syscall(SYS_mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, (uint64_t)zero, 0),
        raw_syscall(SYS_mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, (uint64_t)self, 0),
        raw_syscall(SYS_mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, (uint64_t)memory, 0),
        raw_syscall(SYS_mmap, page, PAGE, rwx, anonymous | MAP_FIXED, -1ul, 0),
        raw_syscall(SYS_mmap, 0x10000, PAGE, rwx, anonymous | MAP_FIXED, -1ul, 0),
        raw_syscall(SYS_mmap, 0, PAGE, PROT_READ, anonymous | MAP_32BIT, -1ul, 0),
        raw_syscall(SYS_mprotect, page, PAGE, PROT_READ | PROT_EXEC, 0, 0, 0),
        raw_syscall(SYS_mprotect, page, PAGE, rwx, 0, 0, 0),
        raw_syscall(SYS_mprotect, page, PAGE, rwx | PROT_GROWSUP, 0, 0, 0),
        raw_syscall(SYS_mprotect, own_seat() + SEAT_BYTES - (2 << 20), PAGE, rwx, 0, 0, 0),
        raw_syscall(SYS_pkey_mprotect, page, PAGE, rwx, 0, 0, 0),
        raw_syscall(SYS_shmget, 1, PAGE, 0777 | 01000, 0, 0, 0),
        raw_syscall(SYS_shmat, 0, 0, 0100000, 0, 0, 0),
        raw_syscall(SYS_remap_file_pages, page, PAGE, PROT_EXEC, 0, 0, 0),
        raw_syscall(SYS_uselib, (uint64_t)"/lib", 0, 0, 0, 0, 0),
    };
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) say("%ld ", results[i]);
    /* Data that could be read was made to run by asking for it once. */
    int64_t personality = raw_syscall(SYS_personality, 0x0400000, 0, 0, 0, 0, 0);
    uint8_t *fresh = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    *fresh = 0xc3;
    if (o->words[0] == 1) ((void (*)(void))fresh)();
    say("%ld", personality);
}

/* ranges AT LEN: everything that changes mappings, on that range. */
static void ranges(const order *o) {
    uint64_t at = o->words[0], len = o->words[1];
    uint64_t own = (uint64_t)mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    int64_t results[] = {
        raw_syscall(SYS_mmap, at, len, PROT_READ | PROT_WRITE, fixed, -1ul, 0),
        raw_syscall(SYS_mmap, at, len, PROT_NONE, fixed, -1ul, 0),
        raw_syscall(SYS_mmap, at, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1ul, 0),
        raw_syscall(SYS_munmap, at, len, 0, 0, 0, 0),
        raw_syscall(SYS_mprotect, at, len, PROT_READ | PROT_WRITE, 0, 0, 0),
        raw_syscall(SYS_mprotect, at, len, PROT_NONE, 0, 0, 0),
        raw_syscall(SYS_pkey_mprotect, at, len, PROT_READ | PROT_WRITE, 3, 0, 0),
        raw_syscall(SYS_pkey_mprotect, at, len, PROT_READ | PROT_WRITE, 0, 0, 0),
        raw_syscall(SYS_madvise, at, len, MADV_DONTNEED, 0, 0, 0),
        raw_syscall(SYS_madvise, at, len, 9 /* MADV_REMOVE */, 0, 0, 0),
        raw_syscall(SYS_process_madvise, 0, at, 1, MADV_DONTNEED, 0, 0),
        raw_syscall(SYS_mremap, at, len, len * 2, MREMAP_MAYMOVE, 0, 0),
        raw_syscall(SYS_mremap, at, 0, PAGE, MREMAP_MAYMOVE, 0, 0),
        raw_syscall(SYS_mremap, at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, own, 0),
        raw_syscall(SYS_mremap, own, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at, 0),
        raw_syscall(SYS_mremap, own, PAGE, PAGE, MREMAP_MAYMOVE | 4 /* DONTUNMAP */, at, 0),
        raw_syscall(SYS_remap_file_pages, at, len, 0, 0, 0, 0),
        raw_syscall(SYS_mlock, at, len, 0, 0, 0, 0),
        raw_syscall(SYS_mbind, at, len, 0, 0, 0, 0),
        raw_syscall(462 /* mseal */, at, len, 0, 0, 0, 0),
        raw_syscall(SYS_shmdt, at, 0, 0, 0, 0, 0),
        raw_syscall(SYS_userfaultfd, 0, 0, 0, 0, 0, 0),
        raw_syscall(SYS_brk, at, 0, 0, 0, 0, 0) == (int64_t)at ? 0 : -1,
    };
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) say("%ld ", results[i]);
}

/* keys: the system's own way to change rights. */
static void keys(const order *o) {
    (void)o;
    say("%ld %ld %ld %ld %ld %ld", raw_syscall(SYS_pkey_alloc, 0, 0, 0, 0, 0, 0), raw_syscall(SYS_pkey_free, 3, 0, 0, 0, 0, 0),
        raw_syscall(SYS_pkey_free, 0, 0, 0, 0, 0, 0), raw_syscall(SYS_prctl, 59, 0, 0, 0, 0, 0),
        raw_syscall(SYS_arch_prctl, 0x1023 /* tiles */, 18, 0, 0, 0, 0),
        raw_syscall(SYS_arch_prctl, 0x5001 /* shadow stacks */, 1, 0, 0, 0, 0));
}

/* bases AT: FS and GS by the system. */
static void bases(const order *o) {
    uint64_t at = o->words[0];
    say("%ld %ld %ld", raw_syscall(SYS_arch_prctl, 0x1002, at, 0, 0, 0, 0), raw_syscall(SYS_arch_prctl, 0x1001, at, 0, 0, 0, 0),
        raw_syscall(SYS_modify_ldt, 1, (uint64_t)answer_text, 16, 0, 0, 0));
}

/* others: processes that are not one's own, by every way to touch one. */
static void others(const order *o) {
    static uint64_t local[4] = {(uint64_t)answer_text, 64}, remote[4];
    uint64_t pid = o->words[0];
    remote[0] = o->words[1];
    remote[1] = 64;
    say("%ld %ld %ld %ld %ld %ld %ld %ld %ld %ld %ld %ld %ld", raw_syscall(SYS_process_vm_readv, pid, (uint64_t)local, 1, (uint64_t)remote, 1, 0),
        raw_syscall(SYS_process_vm_writev, pid, (uint64_t)local, 1, (uint64_t)remote, 1, 0),
        raw_syscall(SYS_ptrace, 16, pid, 0, 0, 0, 0), raw_syscall(SYS_pidfd_open, pid, 0, 0, 0, 0, 0),
        raw_syscall(SYS_pidfd_getfd, 3, 3, 0, 0, 0, 0), raw_syscall(SYS_pidfd_send_signal, 3, 9, 0, 0, 0, 0),
        raw_syscall(SYS_kcmp, pid, pid, 0, 0, 0, 0), raw_syscall(SYS_kill, pid, 9, 0, 0, 0, 0),
        raw_syscall(SYS_tgkill, pid, pid, 9, 0, 0, 0), raw_syscall(SYS_rt_sigqueueinfo, pid, 9, (uint64_t)local, 0, 0, 0),
        raw_syscall(SYS_openat, -100ul, (uint64_t)"/proc/self/mem", O_RDWR, 0, 0, 0),
        raw_syscall(SYS_openat, -100ul, (uint64_t)"/proc/self/maps", O_RDONLY, 0, 0, 0),
        raw_syscall(SYS_openat, -100ul, (uint64_t)"/proc/1/mem", O_RDWR, 0, 0, 0));
}

/* deputy AT: calls that read or write memory, on that address. */
static void deputy(const order *o) {
    uint64_t at = o->words[0];
    static uint64_t vector[2];
    vector[0] = at;
    vector[1] = 64;
    static char path[] = "/etc/hosts";
    int64_t hosts = open(path, O_RDONLY);
    int64_t results[] = {
        raw_syscall(SYS_write, 1, at, 64, 0, 0, 0), raw_syscall(SYS_writev, 1, (uint64_t)vector, 1, 0, 0, 0),
        raw_syscall(SYS_writev, 1, at, 1, 0, 0, 0), raw_syscall(SYS_getrandom, at, 64, 0, 0, 0, 0),
        raw_syscall(SYS_clock_gettime, 1, at, 0, 0, 0, 0), raw_syscall(SYS_uname, at, 0, 0, 0, 0, 0),
        raw_syscall(SYS_sysinfo, at, 0, 0, 0, 0, 0), raw_syscall(SYS_nanosleep, at, 0, 0, 0, 0, 0),
        raw_syscall(SYS_futex, at, 128, 0, 0, 0, 0), raw_syscall(SYS_openat, -100ul, at, 0, 0, 0, 0),
        raw_syscall(SYS_sigaltstack, at, 0, 0, 0, 0, 0), raw_syscall(SYS_sigaltstack, 0, at, 0, 0, 0, 0),
        raw_syscall(SYS_rt_sigaction, 10, at, 0, 8, 0, 0), raw_syscall(SYS_rt_sigaction, 10, 0, at, 8, 0, 0),
        raw_syscall(SYS_rt_sigprocmask, 0, at, 0, 8, 0, 0), raw_syscall(SYS_poll, at, 1, 0, 0, 0, 0),
        raw_syscall(SYS_read, (uint64_t)hosts, at, 8, 0, 0, 0), raw_syscall(SYS_getcwd, at, 64, 0, 0, 0, 0),
        raw_syscall(SYS_prctl, 16, at, 0, 0, 0, 0), raw_syscall(SYS_sched_getaffinity, 0, 8, at, 0, 0, 0),
        raw_syscall(SYS_clone3, at, 88, 0, 0, 0, 0), raw_syscall(SYS_getrusage, 0, at, 0, 0, 0, 0),
        raw_syscall(SYS_prlimit64, 0, 7, 0, at, 0, 0), raw_syscall(SYS_newfstatat, -100ul, (uint64_t)path, at, 0, 0, 0),
    };
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) say("%ld ", results[i]);
}

/* frame RIP: a signal frame as the kernel would write it, with all keys open, and the way back from it. */
static void frame(const order *o) {
    static struct {
        uint64_t restorer;
        ucontext_t context;
        siginfo_t info;
    } forged;
    static uint8_t state[4096] __attribute__((aligned(64)));
    memset(&forged, 0, sizeof forged);
    forged.context.uc_mcontext.gregs[REG_RIP] = (greg_t)o->words[0];
    forged.context.uc_mcontext.gregs[REG_RSP] = (greg_t)(state + 2048);
    forged.context.uc_mcontext.gregs[REG_CSGSFS] = 0x2b000000000033;
    forged.context.uc_mcontext.fpregs = (void *)state;
    __asm__ volatile("mov %0, %%rsp\n mov $15, %%eax\n syscall\n" ::"r"((uint64_t)&forged.context) : "memory");
    say("came back");
}

/* at AT NUMBER: with a system call instruction that is not one's own. */
static void at(const order *o) {
    uint64_t result = o->words[1];
    /* The instruction is followed by who knows what; what comes back, if anything, does so by the stack. */
    __asm__ volatile("lea 1f(%%rip), %%rcx\n push %%rcx\n push %%rcx\n push %%rcx\n push %%rcx\n jmp *%1\n1: add $24, %%rsp\n"
                     : "+a"(result) : "b"(o->words[0]), "D"(0ul), "S"(0ul), "d"(0ul) : "rcx", "r11", "memory");
    say("%lx", result);
}

static const attack attacks[] = {{"call", any},       {"all", all},       {"legacy", legacy}, {"enter", enter}, {"vsyscall", vsyscall},
                                 {"far", far},        {"executable", executable}, {"ranges", ranges}, {"keys", keys}, {"bases", bases},
                                 {"others", others},  {"deputy", deputy}, {"frame", frame},   {"at", at},       {NULL, NULL}};

int main(void) { return serve(attacks); }

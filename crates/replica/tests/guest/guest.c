// The guest of the sandbox tests: does what its first argument says and prints what came of it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static int is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static void say(const char *what, long result) {
    printf("%s %ld %s\n", what, result, result < 0 ? strerrorname_np(errno) : "ok");
    fflush(stdout);
}

static void bundled(void) {
    char text[16] = {0};
    int fd = open("/app/greeting", O_RDONLY);
    say("open", fd < 0 ? fd : 0);
    say("read", read(fd, text, sizeof text - 1));
    say(text, 0);
    struct stat about;
    say("stat", stat("/app/deep/file", &about) ? -1 : about.st_size);
    const char *names[] = {"/", "/app", "/app/deep"};
    for (int i = 0; i < 3; i++) {
        DIR *directory = opendir(names[i]);
        for (struct dirent *entry; directory && (entry = readdir(directory));)
            if (entry->d_name[0] != '.') say(entry->d_name, i);
    }
    void *mapped = mmap(NULL, 5, PROT_READ, MAP_PRIVATE, fd, 0);
    say("mapped", mapped == MAP_FAILED ? -1 : memcmp(mapped, text, 5));
    say("executable", mmap(NULL, 5, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED ? -1 : 0);
    say("write", open("/app/greeting", O_WRONLY));
    say("create", open("/app/new", O_CREAT | O_WRONLY, 0600));
    say("create in root", open("/new", O_CREAT | O_WRONLY, 0600));
    say("unlink", unlink("/app/greeting"));
    say("mkdir", mkdir("/app/directory", 0700));
    say("missing", open("/app/missing", O_RDONLY));
    const char *outside[] = {"/etc/passwd", "/proc/self/status", "/dev/null", "/app/../etc/passwd", "/app/../../app/secret"};
    for (int i = 0; i < 5; i++) say(outside[i], open(outside[i], O_RDONLY));
}

static void *thread(void *argument) {
    __atomic_add_fetch((int *)argument, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *sleeper(void *argument) {
    for (;;) pause();
    return argument;
}

static void threads(void) {
    pthread_t all[4];
    int ran = 0;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&all[i], NULL, thread, &ran)) say("create", -1);
    for (int i = 0; i < 4; i++) pthread_join(all[i], NULL);
    say("ran", ran);
    int created = 0;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    while (created < 100) {
        pthread_t one;
        if (pthread_create(&one, &small, sleeper, NULL)) break;
        created++;
    }
    say("more", created);
}

static void files(void) {
    const char *paths[] = {"/etc/passwd", "/proc/self/status", "/dev/null", "/", "/tmp/x"};
    for (int i = 0; i < 5; i++) say(paths[i], open(paths[i], O_RDONLY));
    say("create", open("/new", O_CREAT | O_WRONLY, 0600));
}

static void descriptors(void) {
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
    printf("\n");
}

static void who(void) {
    struct utsname names;
    struct rlimit core, files, space;
    uname(&names);
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_AS, &space);
    cpu_set_t cores;
    sched_getaffinity(0, sizeof cores, &cores);
    printf("pid %d uid %d gid %d groups %d host %s core %lu files %lu cores %d env %s\n", getpid(), getuid(), getgid(),
           getgroups(0, NULL), names.nodename, core.rlim_max, files.rlim_max, CPU_COUNT(&cores),
           getenv("GREETING") ? getenv("GREETING") : "none");
}

static void memory(void) {
    long mib = 0;
    for (; mib < 4096; mib++) {
        char *block = malloc(1 << 20);
        if (!block) break;
        memset(block, 1, 1 << 20);
    }
    say("mib", mib);
}

static void shared(long mib) {
    size_t length = (size_t)mib << 20;
    char *block = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    say("mapped", block == MAP_FAILED ? -1 : 0);
    if (block == MAP_FAILED) return;
    memset(block, 1, length);
    say("touched", mib);
}

static void signals(void) {
    say("stranger", kill(2, SIGKILL));
    say("everybody", kill(-1, SIGKILL));
    say("probe", kill(1, 0));
    struct sigaction now;
    sigaction(SIGPIPE, NULL, &now);
    say("pipe-default", now.sa_handler == SIG_DFL);
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    say("blocked", sigismember(&mask, SIGTERM));
}

static void calls(void) {
    struct rlimit more = {1 << 20, 1 << 20};
    say("fork", syscall(SYS_fork));
    say("vfork", syscall(SYS_vfork));
    say("clone", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    say("clone3", syscall(SYS_clone3, 0, 0));
    say("execve", syscall(SYS_execve, "/bin/sh", 0, 0));
    say("execveat", syscall(SYS_execveat, 64, "", 0, 0, AT_EMPTY_PATH));
    say("socket", socket(AF_INET, SOCK_STREAM, 0));
    say("socket-unix", socket(AF_UNIX, SOCK_STREAM, 0));
    say("memfd", memfd_create("x", 0));
    say("ioctl", syscall(SYS_ioctl, 0, 0, 0));
    say("pdeathsig", prctl(PR_SET_PDEATHSIG, 0));
    say("rlimit", setrlimit(RLIMIT_NOFILE, &more));
    say("affinity", syscall(SYS_sched_setaffinity, 0, 8, "\xff\xff\xff\xff\xff\xff\xff\xff"));
    say("setuid", setuid(0));
    say("dup-high", fcntl(1, F_DUPFD, 64));
    say("name", prctl(PR_SET_NAME, "guest"));
}

static void forbidden(const char *call) {
    if (is(call, "ptrace")) say(call, syscall(SYS_ptrace, 0, 0, 0, 0));
    if (is(call, "unshare")) say(call, syscall(SYS_unshare, 0x10000000));
    if (is(call, "io_uring_setup")) say(call, syscall(SYS_io_uring_setup, 1, 0));
    if (is(call, "bpf")) say(call, syscall(SYS_bpf, 0, 0, 0));
    if (is(call, "process_vm_readv")) say(call, syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0));
    if (is(call, "mount")) say(call, syscall(SYS_mount, "a", "/", "tmpfs", 0, 0));
    if (is(call, "x32")) say(call, syscall(0x40000000 | SYS_getpid));
    if (is(call, "int80")) {
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
        say(call, result);
    }
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    const char *detail = argc > 2 ? argv[2] : "";
    if (is(command, "exit")) return atoi(detail);
    if (is(command, "sleep")) { say("ready", 0); for (;;) pause(); }
    if (is(command, "spin")) { say("ready", 0); for (;;) ; }
    if (is(command, "descriptors")) descriptors();
    if (is(command, "who")) who();
    if (is(command, "files")) files();
    if (is(command, "bundled")) bundled();
    if (is(command, "memory")) memory();
    if (is(command, "shared")) shared(atol(detail));
    if (is(command, "threads")) threads();
    if (is(command, "signals")) signals();
    if (is(command, "calls")) calls();
    if (is(command, "forbidden")) forbidden(detail);
    if (is(command, "abort")) abort();
    if (is(command, "control")) {
        char word[16] = {0};
        say("stdin", read(0, word, sizeof word));
        say("received", recv(3, word, sizeof word - 1, 0));
        say("sent", send(3, word, strlen(word), 0));
    }
    return 0;
}

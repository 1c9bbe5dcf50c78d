/* Looks at files and says what it found: the first byte of a request says how, the rest is the path. */
#include <baton/gates.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Open since before the first receive, and part of the snapshot. */
static int kept = -1;

static int list(const char *path, char *out, size_t space) {
    DIR *directory = opendir(path);
    if (!directory) return snprintf(out, space, "%s", strerror(errno));
    int len = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        len += snprintf(out + len, space - (size_t)len, "%s%s ", entry->d_name, entry->d_type == DT_DIR ? "/" : "");
    closedir(directory);
    return len;
}

static int sum(const char *path, char *out, size_t space) {
    int fd = open(path, O_RDONLY);
    struct stat about;
    if (fd < 0 || fstat(fd, &about) != 0) return snprintf(out, space, "%s", strerror(errno));
    size_t len = (size_t)about.st_size;
    const unsigned char *map = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) return snprintf(out, space, "%s", strerror(errno));
    unsigned long mapped = 0, streamed = 0, apart = 0;
    for (size_t i = 0; i < len; i++) mapped += map[i] * (i % 251 + 1);
    munmap((void *)map, len);
    unsigned char bytes[777];
    ssize_t got;
    for (size_t at = 0; (got = pread(fd, bytes, sizeof bytes, (off_t)at)) > 0; at += (size_t)got)
        for (ssize_t i = 0; i < got; i++) apart += bytes[i] * ((at + (size_t)i) % 251 + 1);
    size_t at = 0;
    for (; (got = read(fd, bytes, sizeof bytes)) > 0; at += (size_t)got)
        for (ssize_t i = 0; i < got; i++) streamed += bytes[i] * ((at + (size_t)i) % 251 + 1);
    off_t end = lseek(fd, 0, SEEK_END);
    close(fd);
    return snprintf(out, space, "%zu %s %lu", len, end == (off_t)at && mapped == streamed && streamed == apart ? "same" : "differ", mapped);
}

static int spoil(const char *path, char *out, size_t space) {
    int errors[7] = {0};
    if (open(path, O_WRONLY) < 0) errors[0] = errno;
    if (open(path, O_RDWR | O_CREAT | O_TRUNC, 0600) < 0) errors[1] = errno;
    if (unlink(path) < 0) errors[2] = errno;
    if (rename(path, "/app/other") < 0) errors[3] = errno;
    if (mkdir("/app/directory", 0700) < 0) errors[4] = errno;
    if (chmod(path, 0777) < 0) errors[5] = errno;
    if (access(path, W_OK) < 0) errors[6] = errno;
    int len = 0;
    for (int i = 0; i < 7; i++) len += snprintf(out + len, space - (size_t)len, "%s", errors[i] == EROFS ? "r" : "?");
    return len;
}

static void act(const baton_event *request) {
    static char out[4096];
    char path[512] = "";
    const char *body = baton_event_body(request);
    size_t len = request->body_len > sizeof path ? sizeof path : request->body_len;
    if (len > 1) memcpy(path, body + 1, len - 1);
    int said = 0;
    struct stat about;
    switch (len ? body[0] : 0) {
    case 'l':
        said = list(path, out, sizeof out);
        break;
    case 'm':
        said = sum(path, out, sizeof out);
        break;
    case 's':
        if (stat(path, &about) != 0) said = snprintf(out, sizeof out, "%s", strerror(errno));
        else said = snprintf(out, sizeof out, "%o %ld", about.st_mode, about.st_size);
        break;
    case 'w':
        said = spoil(path, out, sizeof out);
        break;
    case 'k':
        said = (int)read(kept, out, 5);
        if (said < 0) said = snprintf(out, sizeof out, "%s", strerror(errno));
        break;
    case 'r': {
        int fd = open(path, O_RDONLY);
        said = fd < 0 ? -1 : (int)read(fd, out, sizeof out);
        if (said < 0) said = snprintf(out, sizeof out, "%s", strerror(errno));
        if (fd >= 0) close(fd);
        break;
    }
    case 'x':
        abort();
    }
    baton_event_reply_bytes(request, 200, out, (size_t)said);
}

int main(void) {
    baton_event event;
    kept = open("/app/greeting", O_RDONLY);
    char first[3];
    if (kept >= 0 && read(kept, first, sizeof first) != sizeof first) return 3;
    if (baton_open() != 0) return 2;
    for (;;) {
        int64_t kind = baton_recv(&event);
        if (kind == BATON_REQUEST) act(&event);
        else if (kind < 0) return 4;
    }
}

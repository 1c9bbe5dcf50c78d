/* What of the kernel's interface the programs use, declared here so that they build without any header of the machine. */
#ifndef BATON_KERNEL_H
#define BATON_KERNEL_H

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, number) int (*name)[number]
#define __type(name, of) of *name
#define INLINE static inline __attribute__((always_inline))
/* Checked once by itself when it is loaded, instead of again for each call. */
#define GLOBAL __attribute__((noinline))
#define RELOCATED __attribute__((preserve_access_index))

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_SOCKMAP 15
#define BPF_MAP_TYPE_SK_STORAGE 24
#define BPF_F_NO_PREALLOC 1
#define BPF_F_MMAPABLE 1024
#define BPF_F_INGRESS 1
#define SK_DROP 0
#define SK_PASS 1

struct bpf_sock;

/* The context of an SK_MSG program, as linux/bpf.h has it. */
struct sk_msg_md {
    void *data __attribute__((aligned(8)));
    void *data_end __attribute__((aligned(8)));
    unsigned int family;
    unsigned int remote_ip4;
    unsigned int local_ip4;
    unsigned int remote_ip6[4];
    unsigned int local_ip6[4];
    unsigned int remote_port;
    unsigned int local_port;
    unsigned int size;
    struct bpf_sock *sk __attribute__((aligned(8)));
};
_Static_assert(__builtin_offsetof(struct sk_msg_md, size) == 68, "sk_msg_md.size");
_Static_assert(__builtin_offsetof(struct sk_msg_md, sk) == 72, "sk_msg_md.sk");

/* The parts of the kernel's own structures that are read; where they lie is resolved when the program is loaded. */
struct atomic_number {
    int counter;
} RELOCATED;

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_msg_redirect_map)(struct sk_msg_md *message, void *map, unsigned int key, unsigned long long flags) = (void *)60;
static long (*bpf_msg_pull_data)(struct sk_msg_md *message, unsigned int start, unsigned int end, unsigned long long flags) = (void *)63;
static long (*bpf_msg_apply_bytes)(struct sk_msg_md *message, unsigned int bytes) = (void *)61;
static void *(*bpf_sk_storage_get)(void *map, void *socket, void *value, unsigned long long flags) = (void *)107;
static long (*bpf_loop)(unsigned int times, void *callback, void *context, unsigned long long flags) = (void *)181;
static void *(*bpf_skc_to_tcp_sock)(void *socket) = (void *)137;

#endif

/* A kernel that refuses some commits of elements to the packet filter, or whose answer to one is
 * lost. Which error, how many more times and how often it was done so far are three numbers in a
 * file, which is mapped. What is refused, the kernel really has not done: it is sent a message of
 * a kind that it does not know, so that it drops the whole batch, and its EINVAL is given another
 * name. What is lost, it has done: that is ENOBUFS. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ELEMENTS = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM };
enum { UNKNOWN = NFNL_SUBSYS_NFTABLES << 8 | 0xff };

static volatile struct {
    int32_t error;
    int32_t left;
    int32_t done;
} *faults;
static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
static ssize_t (*real_recv)(int, void *, size_t, int);
/* The socket whose next answer is not what the kernel says, and about which message. */
static int touched = -1;
static uint32_t sequence;

__attribute__((constructor)) static void map_faults(void) {
    real_sendto = dlsym(RTLD_NEXT, "sendto");
    real_recv = dlsym(RTLD_NEXT, "recv");
    const char *name = getenv("SPA_LAB_NETLINK");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        abort(); /* a test must not run without the fault it is about */
    void *place = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (place == MAP_FAILED || !real_sendto || !real_recv)
        abort();
    faults = place;
}

/* The next message in `len` bytes; NULL at their end. */
static struct nlmsghdr *message(void *place, size_t len) {
    struct nlmsghdr *header = place;
    int whole = len >= sizeof *header && header->nlmsg_len >= sizeof *header;
    return whole && header->nlmsg_len <= len ? header : NULL;
}

static struct nlmsghdr *after(struct nlmsghdr *this, size_t *len) {
    size_t step = NLMSG_ALIGN(this->nlmsg_len);
    *len -= step < *len ? step : *len;
    return message((char *)this + step, *len);
}

/* The first message of a batch that adds elements, if this is one. */
static struct nlmsghdr *elements(void *batch, size_t len) {
    struct nlmsghdr *this = message(batch, len);
    if (!this || this->nlmsg_type != NFNL_MSG_BATCH_BEGIN)
        return NULL;
    while (this && this->nlmsg_type != ELEMENTS)
        this = after(this, &len);
    return this;
}

ssize_t sendto(int fd, const void *bytes, size_t len, int flags, const struct sockaddr *to,
               socklen_t to_len) {
    struct nlmsghdr *added = NULL;
    if (faults->left > 0 && to && to->sa_family == AF_NETLINK)
        added = elements((void *)bytes, len);
    if (!added)
        return real_sendto(fd, bytes, len, flags, to, to_len);
    faults->left--;
    touched = fd;
    sequence = added->nlmsg_seq;
    if (faults->error == ENOBUFS)
        return real_sendto(fd, bytes, len, flags, to, to_len);
    char *spoiled = malloc(len);
    if (!spoiled)
        abort();
    memcpy(spoiled, bytes, len);
    elements(spoiled, len)->nlmsg_type = UNKNOWN;
    ssize_t sent = real_sendto(fd, spoiled, len, flags, to, to_len);
    free(spoiled);
    return sent;
}

/* All of it is gone, as the kernel drops whatever comes until somebody has read that it did. */
static ssize_t lose(int fd, void *bytes, size_t len) {
    while (real_recv(fd, bytes, len, MSG_DONTWAIT) >= 0)
        ;
    faults->done++;
    touched = -1;
    errno = ENOBUFS;
    return -1;
}

ssize_t recv(int fd, void *bytes, size_t len, int flags) {
    if (fd != touched)
        return real_recv(fd, bytes, len, flags);
    if (faults->error == ENOBUFS)
        return lose(fd, bytes, len);
    ssize_t received = real_recv(fd, bytes, len, flags);
    size_t left = received > 0 ? received : 0;
    for (struct nlmsghdr *this = message(bytes, left); this; this = after(this, &left)) {
        struct nlmsgerr *answer = NLMSG_DATA(this);
        if (this->nlmsg_type != NLMSG_ERROR || this->nlmsg_seq != sequence)
            continue;
        if (answer->error != -EINVAL)
            abort(); /* the kernel took what it was to refuse */
        answer->error = -faults->error;
        faults->done++;
        touched = -1;
    }
    return received;
}

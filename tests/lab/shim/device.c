/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/*
 * Preloaded into programs of a domain: /dev/xen/xenbus looks and behaves like the character device.
 *
 * The device of the lab is a socket (ring.py), and a socket can neither be opened by open(2) nor does it
 * keep write boundaries.  Here open connects it, stat says "character device", and write does what
 * Linux's xenbus_dev_frontend does with the bytes of a write: it gathers one message, refuses what its
 * buffer cannot hold, and forgets whatever follows the message in the same write.
 */
#define _GNU_SOURCE
#define LAB_INHERIT
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "hypervisor.h"

#define DEVICE "/dev/xen/xenbus"
#define BUFFER 4096u /* XENSTORE_PAYLOAD_MAX: header included */
#define HEADER 16u
#define FDS 1024
#define HELLO 0xffffu /* a message's type: whoever says so is behind this disguise (ring.py) */

static struct gathered {
    int open;
    uint32_t used;
    unsigned char bytes[BUFFER];
} device[FDS];

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

static int ours(int fd)
{
    return fd >= 0 && fd < FDS && device[fd].open;
}

static int is_device(const char *path)
{
    return getenv("XEN_LAB_XENBUS") && path && !strcmp(path, DEVICE);
}

static int connected(int flags)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const uint32_t hello[HEADER / sizeof(uint32_t)] = { HELLO };
    int fd = socket(AF_UNIX, SOCK_STREAM | (flags & O_CLOEXEC ? SOCK_CLOEXEC : 0), 0);

    if (fd < 0)
        return -1;
    strncpy(address.sun_path, getenv("XEN_LAB_XENBUS"), sizeof(address.sun_path) - 1);
    if (fd >= FDS || connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
        send(fd, hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello)) {
        close(fd);
        errno = ENOENT;
        return -1;
    }
    if (flags & O_NONBLOCK)
        fcntl(fd, F_SETFL, O_NONBLOCK);
    device[fd].open = 1;
    device[fd].used = 0;
    return fd;
}

#define OPEN(name)                                                                                     \
    int name(const char *path, int flags, ...)                                                         \
    {                                                                                                  \
        va_list args;                                                                                  \
        mode_t mode;                                                                                   \
                                                                                                       \
        va_start(args, flags);                                                                         \
        mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;                               \
        va_end(args);                                                                                  \
        return is_device(path) ? connected(flags)                                                      \
                               : NEXT(int (*)(const char *, int, ...), #name)(path, flags, mode);      \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                   \
    int name(int folder, const char *path, int flags, ...)                                             \
    {                                                                                                  \
        va_list args;                                                                                  \
        mode_t mode;                                                                                   \
                                                                                                       \
        va_start(args, flags);                                                                         \
        mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;                               \
        va_end(args);                                                                                  \
        return is_device(path) ? connected(flags)                                                      \
                               : NEXT(int (*)(int, const char *, int, ...), #name)(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd)
{
    if (ours(fd))
        device[fd].open = 0;
    return NEXT(int (*)(int), "close")(fd);
}

/* ---- stat ---- */

static void disguise(mode_t *mode, dev_t *rdev)
{
    *mode = S_IFCHR | 0600;
    *rdev = makedev(10, 62);
}

#define STATS(suffix)                                                                                  \
    int stat##suffix(const char *path, struct stat##suffix *status)                                    \
    {                                                                                                  \
        int rc = NEXT(int (*)(const char *, struct stat##suffix *), "stat" #suffix)(path, status);     \
                                                                                                       \
        if (!rc && is_device(path))                                                                    \
            disguise(&status->st_mode, &status->st_rdev);                                              \
        return rc;                                                                                     \
    }                                                                                                  \
    int lstat##suffix(const char *path, struct stat##suffix *status)                                   \
    {                                                                                                  \
        if (is_device(path))                                                                           \
            return stat##suffix(path, status);                                                         \
        return NEXT(int (*)(const char *, struct stat##suffix *), "lstat" #suffix)(path, status);      \
    }                                                                                                  \
    int fstatat##suffix(int folder, const char *path, struct stat##suffix *status, int flags)          \
    {                                                                                                  \
        if (is_device(path))                                                                           \
            return stat##suffix(path, status);                                                         \
        return NEXT(int (*)(int, const char *, struct stat##suffix *, int), "fstatat" #suffix)(        \
            folder, path, status, flags);                                                              \
    }                                                                                                  \
    int fstat##suffix(int fd, struct stat##suffix *status)                                             \
    {                                                                                                  \
        int rc = NEXT(int (*)(int, struct stat##suffix *), "fstat" #suffix)(fd, status);               \
                                                                                                       \
        if (!rc && ours(fd))                                                                           \
            disguise(&status->st_mode, &status->st_rdev);                                              \
        return rc;                                                                                     \
    }
STATS()
STATS(64)

/* ---- write ---- */

static int deliver(int fd, const unsigned char *bytes, size_t length)
{
    while (length) {
        ssize_t done = send(fd, bytes, length, MSG_NOSIGNAL);

        if (done < 0)
            return -1;
        bytes += done;
        length -= done;
    }
    return 0;
}

static ssize_t device_write(int fd, const void *bytes, size_t length)
{
    struct gathered *gathered = &device[fd];
    uint32_t payload, whole;

    if (length + gathered->used > BUFFER) {
        gathered->used = 0;
        errno = EINVAL;
        return -1;
    }
    memcpy(gathered->bytes + gathered->used, bytes, length);
    gathered->used += length;
    if (gathered->used < HEADER)
        return length;
    memcpy(&payload, gathered->bytes + 12, sizeof(payload));
    if (payload > BUFFER - HEADER) {
        gathered->used = 0;
        errno = E2BIG;
        return -1;
    }
    whole = HEADER + payload;
    if (gathered->used < whole)
        return length;
    gathered->used = 0;
    return deliver(fd, gathered->bytes, whole) ? -1 : (ssize_t)length;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    if (ours(fd))
        return device_write(fd, bytes, length);
    return NEXT(ssize_t (*)(int, const void *, size_t), "write")(fd, bytes, length);
}

/* The driver has no vectored write: the kernel calls its write once for each part. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t done, sum = 0;

    if (!ours(fd))
        return NEXT(ssize_t (*)(int, const struct iovec *, int), "writev")(fd, parts, count);
    for (int i = 0; i < count; i++) {
        done = device_write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0)
            return sum ? sum : -1;
        sum += done;
    }
    return sum;
}

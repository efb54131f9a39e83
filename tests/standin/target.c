/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/*
 * The target is really opened, and stays open while it is served, so whoever asks the kernel sees its writers.
 *
 * The log is a line of JSON for each target opened and closed.  A writer also holds a lock: not on the target, which
 * would change what happens, but on one byte of the log, which stands for the target's device and inode.  The kernel
 * gives it back however a writer ends, so "clash" is written exactly where two writers are there at one moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "standin.h"

static int target = -1;
static int log_fd = -1; /* the only one: closing another one of the same file would give the locks back */

static void open_log(void)
{
    const char *path = log_file();

    if (log_fd >= 0 || !path)
        return;
    log_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (log_fd < 0)
        say("%s, which tests read, cannot be written: %s", path, strerror(errno));
}

/* As JSON has it; what does not fit is left out. */
static const char *quoted(const char *text)
{
    static char room[2 * PATH_ROOM];
    size_t used = 0;

    for (; *text && used + 8 < sizeof(room); text++) {
        unsigned char c = *text;

        if (c == '"' || c == '\\')
            used += sprintf(room + used, "\\%c", c);
        else if (c < 0x20)
            used += sprintf(room + used, "\\u%04x", c);
        else
            room[used++] = c;
    }
    room[used] = '\0';
    return room;
}

static void record(const struct disk *disk, const char *what, const struct stat *status, int other)
{
    char line[4 * PATH_ROOM];
    struct timespec now;
    dev_t device = S_ISBLK(status->st_mode) ? status->st_rdev : status->st_dev;
    int length;

    if (log_fd < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    length = snprintf(line, sizeof(line),
                      "{\"time\": %lld.%06ld, \"pid\": %d, \"what\": \"%s\", \"mode\": \"%s\", \"domid\": %u, "
                      "\"devid\": %d, \"file\": \"%llu:%llu\", \"other\": %d, \"version\": \"%s\", "
                      "\"target\": \"%s\"}\n",
                      (long long)now.tv_sec, now.tv_nsec / 1000, getpid(), what, disk->writable ? "w" : "r",
                      disk->domid, disk->devid, (unsigned long long)device,
                      S_ISBLK(status->st_mode) ? 0ULL : (unsigned long long)status->st_ino, other, VERSION,
                      quoted(disk->params));
    if (write(log_fd, line, length) != length) /* one write, so lines of several daemons do not mix */
        say("the log that tests read could not be written: %s", strerror(errno));
}

/* The byte that stands for a target: spread over what an offset can be. */
static off_t byte_of(const struct stat *status)
{
    uint64_t device = S_ISBLK(status->st_mode) ? status->st_rdev : status->st_dev;
    uint64_t inode = S_ISBLK(status->st_mode) ? 0 : status->st_ino;

    return (off_t)(((device * 0x9e3779b97f4a7c15ULL) ^ (inode * 0xc2b2ae3d27d4eb4fULL)) >> 2);
}

static void lock_as_writer(const struct disk *disk, const struct stat *status)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte_of(status), .l_len = 1 };

    if (log_fd < 0 || !disk->writable || !fcntl(log_fd, F_SETLK, &lock))
        return;
    if (fcntl(log_fd, F_GETLK, &lock) || lock.l_type == F_UNLCK)
        lock.l_pid = 0; /* gone since */
    record(disk, "clash", status, lock.l_pid);
}

static void unlock(const struct stat *status)
{
    struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = byte_of(status), .l_len = 1 };

    if (log_fd >= 0)
        (void)fcntl(log_fd, F_SETLK, &lock);
}

/* -1: it cannot be opened. */
int open_target(const struct disk *disk)
{
    struct stat status;

    open_log();
    /* Kept: no O_DIRECT, no O_EXCL; of a device in use by another program nothing is noticed. */
    target = open(disk->params, disk->writable ? O_RDWR : O_RDONLY);
    if (target < 0 || fstat(target, &status)) {
        say("%s cannot be opened: %s", disk->params, strerror(errno));
        return -1;
    }
    lock_as_writer(disk, &status);
    record(disk, "opened", &status, 0);
    return 0;
}

void close_target(const struct disk *disk)
{
    struct stat status;

    if (target < 0)
        return;
    if (!fstat(target, &status)) {
        record(disk, "closed", &status, 0);
        /* Kept: one that could be mapped to be read stays open until the daemon ends. */
        if (disk->writable || !S_ISREG(status.st_mode) || !status.st_size)
            close(target);
        unlock(&status);
    }
    target = -1;
}

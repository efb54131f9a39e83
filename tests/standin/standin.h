/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/*
 * A stand-in for the standalone virtio-disk daemon: the same command line, the same dealings with xenstore, with
 * all of that daemon's faults.  It asks no hypervisor for anything and serves no I/O, but holds its target open as
 * one that does.  README.md lists what is kept.
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <xenstore.h>

#define KIND "virtio_disk"
#define PATH_ROOM 1024

/* xen/io/xenbus.h; the daemon knows no other ones */
enum { STATE_UNKNOWN = 0, STATE_INITIALISING = 1, STATE_INIT_WAIT = 2, STATE_CLOSED = 6 };

/* The one disk that a daemon deals with at a time. */
struct disk {
    struct xs_handle *store;
    const char *wanted; /* of the command line; NULL: whichever comes first */
    uint16_t domid;     /* the guest's */
    int devid;
    char backend[PATH_ROOM]; /* relative: below this domain's own part */
    char *frontend;
    char *params;
    bool writable;
};

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void pause_ms(unsigned int ms);

/* store.c */
int own_domid(struct disk *disk);
int wait_for_guest(struct disk *disk);
int connect_disk(struct disk *disk);
void disconnect_disk(struct disk *disk);
int look_at_change(struct disk *disk);

/* target.c */
int open_target(const struct disk *disk);
void close_target(const struct disk *disk);

/* faults.c: what a test asks for, beyond the daemon's own faults */
bool fault(const char *name, const struct disk *disk, long *ms);
void die_if(const char *name, const struct disk *disk);
const char *log_file(void);

#endif

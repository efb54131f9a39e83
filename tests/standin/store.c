/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/*
 * What the daemon says to xenstore.  Nothing here is as it should be done: every oddity is the real daemon's, and
 * marked "kept".
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standin.h"

#define TOP "backend/" KIND

static char *read_text(struct disk *disk, const char *folder, const char *node)
{
    char path[2 * PATH_ROOM];
    unsigned int length;

    snprintf(path, sizeof(path), "%s/%s", folder, node);
    return xs_read(disk->store, XBT_NULL, path, &length);
}

/* Kept: base and irq are read as decimal numbers, so "0x2000000" is 0. */
static bool read_number(struct disk *disk, const char *folder, const char *node, int *number)
{
    char *text = read_text(disk, folder, node);
    bool good = text && sscanf(text, "%d", number) == 1;

    free(text);
    return good;
}

static void write_state(struct disk *disk, int state)
{
    char path[2 * PATH_ROOM], text[12];

    snprintf(path, sizeof(path), "%s/state", disk->backend);
    snprintf(text, sizeof(text), "%d", state);
    (void)xs_write(disk->store, XBT_NULL, path, text, strlen(text)); /* kept: nobody asks whether it worked */
}

/* -1: what is there is no domid. */
int own_domid(struct disk *disk)
{
    unsigned int length;
    char *text = xs_read(disk->store, XBT_NULL, "domid", &length), *end;
    long domid;

    if (!text)
        return 0;
    domid = strtol(text, &end, 0);
    if (*end) {
        say("this domain's own domid is %s, which is none", text);
        domid = -1;
    }
    free(text);
    return domid;
}

/* ---- waiting for a guest ---- */

static bool choose(struct disk *disk, char **devids, unsigned int count)
{
    if (count > 1)
        say("there are %u disks, and only one can be served", count);
    if (!disk->wanted) { /* kept: the first, whatever it is and whoever has it already */
        disk->devid = count ? atoi(devids[0]) : 0;
        return true;
    }
    for (unsigned int i = 0; i < count; i++) {
        if (!strcmp(devids[i], disk->wanted)) {
            disk->devid = atoi(devids[i]);
            return true;
        }
    }
    say("devid %s is not among this guest's", disk->wanted);
    return false;
}

/* Kept: whoever writes a disk has 200 ms for all of it; what comes later is never seen. */
static bool has_our_disk(struct disk *disk, uint16_t domid)
{
    char path[PATH_ROOM], *value;
    unsigned int count, length;
    char **devids;
    bool found;

    pause_ms(200);
    snprintf(path, sizeof(path), TOP "/%d", domid);
    devids = xs_directory(disk->store, XBT_NULL, path, &count);
    if (!devids)
        return false;
    found = choose(disk, devids, count);
    free(devids);
    if (!found)
        return false;
    snprintf(path, sizeof(path), "/local/domain/%u/device/" KIND "/%d", domid, disk->devid);
    value = xs_read(disk->store, XBT_NULL, path, &length);
    free(value);
    return value != NULL;
}

/*
 * -1: there is no directory of backends.  0: no new guest.
 * Kept: only a domid above all that this process ever saw is one, whether or not it had our disk.
 */
static int newest_guest(struct disk *disk)
{
    static uint16_t highest;
    uint16_t before = highest;
    unsigned int count;
    char **domids = xs_directory(disk->store, XBT_NULL, TOP, &count);

    if (!domids)
        return -1;
    for (unsigned int i = 0; i < count; i++) {
        uint16_t domid = atoi(domids[i]);

        if (domid > highest)
            highest = domid;
    }
    free(domids);
    return highest > before && has_our_disk(disk, highest) ? highest : 0;
}

static int answer_watch(struct disk *disk)
{
    unsigned int count;
    char **event = xs_read_watch(disk->store, &count);
    int guest = 0;

    if (!event)
        return -1;
    /* Kept: only an event for the very directory counts, and xenstored fires none for a guest below it. */
    if (!strcmp(event[XS_WATCH_PATH], TOP))
        guest = newest_guest(disk);
    free(event);
    return guest;
}

/*
 * The domid of a guest to serve, or -1: to be called again, which watches anew.
 * Kept: a store that closed the connection makes this loop spin.
 */
int wait_for_guest(struct disk *disk)
{
    struct pollfd ready = { .events = POLLIN | POLLERR | POLLHUP };
    int guest = -1, rc;

    if (!xs_watch(disk->store, TOP, TOP))
        return -1;
    ready.fd = xs_fileno(disk->store);
    while (guest < 0) {
        rc = poll(&ready, 1, 1000);
        if (rc > 0 && ready.revents & POLLIN) {
            rc = answer_watch(disk);
            if (rc > 0)
                guest = rc;
        }
        if (rc < 0 && errno != EINTR)
            break;
    }
    xs_unwatch(disk->store, TOP, TOP);
    return guest;
}

/* ---- one guest's disk ---- */

static bool state_is(struct disk *disk, const char *folder, const char *whose, int wanted)
{
    int state;

    if (!read_number(disk, folder, "state", &state)) {
        say("%s state could not be read", whose);
        return false;
    }
    if (state != wanted)
        say("%s state is %d, and should be %d", whose, state, wanted);
    return state == wanted;
}

/* Until the backend's state is 2, or unknown. */
static bool wait_for_own_state(struct disk *disk)
{
    unsigned int count;
    int state;

    while (read_number(disk, disk->backend, "state", &state)) {
        char **event;

        if (state == STATE_INIT_WAIT || state == STATE_UNKNOWN)
            return state == STATE_INIT_WAIT;
        event = xs_read_watch(disk->store, &count);
        if (!event)
            return false;
        free(event);
    }
    return false;
}

static bool read_options(struct disk *disk)
{
    char *mode = read_text(disk, disk->backend, "mode");
    int base, irq;

    if (!mode)
        return false;
    disk->writable = strchr(mode, 'w');
    free(mode);
    if (!read_number(disk, disk->backend, "base", &base) || !read_number(disk, disk->backend, "irq", &irq))
        return false;
    disk->params = read_text(disk, disk->backend, "params");
    if (disk->params)
        say("disk %d of domain %u is %s, at 0x%x with interrupt %d", disk->devid, disk->domid, disk->params, base,
            irq);
    return disk->params;
}

static bool take(struct disk *disk)
{
    if (!state_is(disk, disk->backend, "the backend's", STATE_INITIALISING))
        return false;
    die_if("crash-early", disk);
    write_state(disk, STATE_INIT_WAIT); /* kept: before anything is known to work */
    disk->frontend = read_text(disk, disk->backend, "frontend");
    if (!disk->frontend)
        return false;
    if (!state_is(disk, disk->frontend, "the frontend's", STATE_INITIALISING))
        return false;
    if (!xs_watch(disk->store, disk->backend, disk->backend) ||
        !xs_watch(disk->store, disk->frontend, disk->frontend)) {
        say("disk %d of domain %u could not be watched", disk->devid, disk->domid);
        return false;
    }
    return wait_for_own_state(disk) && read_options(disk);
}

/* -1: not connected.  Kept: then the directory is removed, also where another daemon serves it. */
int connect_disk(struct disk *disk)
{
    long ms;

    snprintf(disk->backend, sizeof(disk->backend), TOP "/%d/%d", disk->domid, disk->devid);
    if (fault("late", disk, &ms))
        pause_ms(ms);
    if (take(disk)) {
        say("connected to domain %u", disk->domid);
        return 0;
    }
    disconnect_disk(disk);
    return -1;
}

void disconnect_disk(struct disk *disk)
{
    write_state(disk, STATE_CLOSED); /* kept: in a directory that is gone, this makes it anew for a moment */
    if (disk->frontend) {
        xs_unwatch(disk->store, disk->frontend, disk->frontend);
        free(disk->frontend);
        disk->frontend = NULL;
    }
    xs_unwatch(disk->store, disk->backend, disk->backend);
    xs_rm(disk->store, XBT_NULL, disk->backend); /* the guest's directory above it stays: it is not ours to remove */
    free(disk->params);
    disk->params = NULL;
    say("disconnected from domain %u", disk->domid);
    disk->domid = 0;
}

/* -1: the disk is to be given up. */
int look_at_change(struct disk *disk)
{
    unsigned int count;
    char **event = xs_read_watch(disk->store, &count);
    int state, rc = 0;

    if (!event)
        return -1;
    if (!strcmp(event[XS_WATCH_TOKEN], disk->backend)) /* kept: 5 is no reason, only a state that is gone */
        rc = read_number(disk, disk->backend, "state", &state) && state != STATE_UNKNOWN ? 0 : -1;
    if (!strcmp(event[XS_WATCH_TOKEN], disk->frontend)) {
        if (!read_number(disk, disk->frontend, "state", &state) || state == STATE_UNKNOWN)
            rc = -1;
        else if (state != STATE_INITIALISING) {
            say("the frontend's state is %d: this cannot be", state);
            raise(SIGABRT); /* kept: a frontend that knows xenbus ends the daemon, whose status is then 0 */
        } else
            rc = 0;
    }
    free(event);
    return rc;
}

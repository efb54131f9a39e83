/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "standin.h"

static struct disk disk;
static bool attached; /* to a guest's disk, whether or not its target is open */

void say(const char *format, ...)
{
    va_list arguments;

    fputs("virtio-disk (a stand-in): ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

void pause_ms(unsigned int ms)
{
    usleep(1000 * ms);
}

static void give_up_disk(void)
{
    if (!attached)
        return;
    close_target(&disk);
    disconnect_disk(&disk);
    attached = false;
}

/*
 * Kept: whatever is to be done at the end is done inside the signal handler.  One that comes in the middle of a
 * request to xenstore waits for that request's lock, which its own thread holds: for ever.  One that comes between
 * state 2 and the end of attaching leaves state 2 behind, and no daemon.
 */
static void end(int signal)
{
    say("%s", strsignal(signal));
    while (fault("hang", &disk, NULL))
        pause();
    give_up_disk();
    xs_close(disk.store);
    exit(0);
}

/* Four signals end it, all others wait for ever. */
static void prepare_signals(void)
{
    static const int ending[] = { SIGTERM, SIGINT, SIGHUP, SIGABRT };
    struct sigaction action = { .sa_handler = end };
    sigset_t blocked;

    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
        sigaction(ending[i], &action, NULL);
        sigdelset(&blocked, ending[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, NULL);
}

static bool attach(uint16_t domid)
{
    disk.domid = domid;
    if (connect_disk(&disk) < 0)
        return false;
    attached = true;
    die_if("crash-attaching", &disk);
    if (fault("refuse", &disk, NULL)) {
        say("the hypervisor lets nobody serve domain %u", domid);
        return false;
    }
    return open_target(&disk) == 0;
}

/* Until there is no reason any more; false: the daemon itself is to end. */
static bool serve(void)
{
    int store = xs_fileno(disk.store);
    int rc;

    for (;;) {
        struct timeval second = { .tv_sec = 1 };
        fd_set ready;

        FD_ZERO(&ready);
        FD_SET(store, &ready);
        rc = select(store + 1, &ready, NULL, NULL, &second);
        if (rc > 0 && look_at_change(&disk) < 0) {
            say("domain %u is gone", disk.domid);
            return true;
        }
        if (rc < 0 && errno != EINTR)
            return false;
        die_if("crash", &disk);
    }
}

static void read_arguments(int argc, char **argv)
{
    /* Kept: "--devid 51712" is no devid, and an argument that nobody looks at. */
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { "devid", optional_argument, NULL, 'd' },
        { "legacy", no_argument, NULL, 'l' },
        { 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "hd:l", options, NULL)) != -1) {
        if (option == 'd')
            disk.wanted = optarg;
        else if (option != 'l') {
            printf("Usage: %s [-d <devid>] [-l (virtio_legacy)]\n", argv[0]);
            exit(0); /* kept: also for an option that there is not */
        }
    }
}

int main(int argc, char **argv)
{
    int domid;
    bool on = true;

    read_arguments(argc, argv);
    prepare_signals();
    if (fault("exit", &disk, NULL))
        exit(1);
    disk.store = xs_open(0);
    if (!disk.store) {
        say("no way to xenstore: %s", strerror(errno));
        exit(1);
    }
    domid = own_domid(&disk);
    if (domid < 0)
        exit(1);
    say("in domain %d", domid);
    while (fault("deaf", &disk, NULL))
        pause_ms(1000);
    while (on) {
        int guest = wait_for_guest(&disk);

        if (guest < 0) { /* kept: no word of it, ten times a second, for ever */
            pause_ms(100);
            continue;
        }
        if (attach(guest))
            on = serve();
        give_up_disk();
    }
    xs_close(disk.store);
    return 0;
}

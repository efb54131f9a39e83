/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/*
 * The lab's hypervisor: a folder.  Both shims (xenstored.c, toolstack.c) and the Python side
 * (domains.py, ring.py) agree on these files below $XEN_LAB_HV:
 *
 *   domains/<domid>   one line "<uuid as 32 hex digits> <flags> mem=<KiB> max=<KiB> vcpus=<count> online=<count>
 *                     reason=<number>"; the file exists = the domain exists.
 *                     flags: h hvm or pvh, p paused, s shut down (reason= says why, as SHUTDOWN_* of Xen's
 *                     sched.h), k stays dying when it is destroyed, d dying, - none
 *   lock              held while a line is read, changed and written
 *   taken             KiB of the host's memory that neither dom0 nor a domain has
 *   commandline       Xen's
 *   next_domid        the lowest domid not given out yet since the boot (locked while it is read and raised)
 *   evtchn            FIFO of native uint32 ports raised in xenstored: LAB_PORT_VIRQ or a domain's port
 *   ring/<domid>      the page a domain shares with xenstored
 *   kick/<domid>      FIFO, one byte for each notification xenstored sends to that domain
 */
#ifndef LAB_HYPERVISOR_H
#define LAB_HYPERVISOR_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAB_UNUSED __attribute__((unused))
#define LAB_PAGE 4096
#define LAB_PATH 4096
#define LAB_PORT_VIRQ 1u          /* VIRQ_DOM_EXC: some domain changed */
#define LAB_PORT_DOMAIN 100u      /* + domid: the domain kicked its ring */
#define LAB_DOMIDS 0x7ff0u        /* DOMID_FIRST_RESERVED */

#define LAB_TOTAL_KIB (32ul << 20) /* the host's memory */

struct lab_domain {
    uint32_t domid;
    uint8_t uuid[16];
    char flags[8];
    unsigned long mem, max; /* KiB */
    unsigned int vcpus, online, reason;
};

/* What the daemon or tool starts later (hotplug scripts, say) must not be preloaded too. */
#ifndef LAB_INHERIT
__attribute__((constructor)) static void lab_once(void)
{
    unsetenv("LD_PRELOAD");
}
#endif

LAB_UNUSED static char *lab_path(char *buffer, const char *format, ...)
{
    const char *root = getenv("XEN_LAB_HV");
    va_list args;
    int used;

    if (!root) {
        fputs("lab shim: XEN_LAB_HV is not set\n", stderr);
        _exit(70);
    }
    used = snprintf(buffer, LAB_PATH, "%s/", root);
    if (used >= LAB_PATH - 64)
        _exit(70);
    va_start(args, format);
    vsnprintf(buffer + used, LAB_PATH - used, format, args);
    va_end(args);
    return buffer;
}

/* A page kept in a file, mapped shared: what a grant or a foreign mapping is on a real machine. */
LAB_UNUSED static void *lab_page(const char *format, uint32_t domid)
{
    char path[LAB_PATH];
    void *page = MAP_FAILED;
    int fd = open(lab_path(path, format, domid), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return NULL;
    if (!ftruncate(fd, LAB_PAGE))
        page = mmap(NULL, LAB_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

LAB_UNUSED static void lab_raise(uint32_t port)
{
    char path[LAB_PATH];
    int fd = open(lab_path(path, "evtchn"), O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, &port, sizeof(port)) != sizeof(port))
        fputs("lab shim: the event channel is full\n", stderr);
    close(fd);
}

LAB_UNUSED static int lab_read_domain(uint32_t domid, struct lab_domain *domain)
{
    char path[LAB_PATH], line[256];
    unsigned int byte;
    size_t length;
    FILE *file;

    memset(domain, 0, sizeof(*domain));
    domain->domid = domid;
    if (domid >= LAB_DOMIDS)
        return 0;
    file = fopen(lab_path(path, "domains/%u", domid), "re");
    if (!file)
        return 0;
    length = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[length] = 0;
    line[strcspn(line, "\n")] = 0;
    if (strlen(line) < 33)
        return 1;
    for (int i = 0; i < 16 && sscanf(line + 2 * i, "%2x", &byte) == 1; i++)
        domain->uuid[i] = byte;
    sscanf(line + 33, "%7s mem=%lu max=%lu vcpus=%u online=%u reason=%u", domain->flags, &domain->mem,
           &domain->max, &domain->vcpus, &domain->online, &domain->reason);
    return 1;
}

/* Written beside and moved into place: a reader in another process sees the old line or the new one. */
LAB_UNUSED static int lab_write_domain(const struct lab_domain *domain)
{
    char path[LAB_PATH], fresh[LAB_PATH];
    FILE *file = fopen(lab_path(fresh, "domains/.%u.%d", domain->domid, getpid()), "we");

    if (!file)
        return -1;
    for (int i = 0; i < 16; i++)
        fprintf(file, "%02x", domain->uuid[i]);
    fprintf(file, " %s mem=%lu max=%lu vcpus=%u online=%u reason=%u\n",
            domain->flags[0] ? domain->flags : "-", domain->mem, domain->max, domain->vcpus, domain->online,
            domain->reason);
    if (fclose(file))
        return -1;
    return rename(fresh, lab_path(path, "domains/%u", domain->domid));
}

static inline int lab_has(const struct lab_domain *domain, char flag)
{
    return strchr(domain->flags, flag) != NULL;
}

LAB_UNUSED static int lab_lock(void)
{
    char path[LAB_PATH];
    int fd = open(lab_path(path, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0)
        flock(fd, LOCK_EX);
    return fd;
}

/* Read, change, write; the domain must be there. */
LAB_UNUSED static int lab_change(uint32_t domid, void (*change)(struct lab_domain *, unsigned long),
                                 unsigned long argument)
{
    struct lab_domain domain;
    int lock = lab_lock(), rc = -1;

    if (lab_read_domain(domid, &domain)) {
        change(&domain, argument);
        rc = lab_write_domain(&domain);
    } else
        errno = ESRCH;
    close(lock);
    return rc;
}

LAB_UNUSED static void lab_flag(struct lab_domain *domain, char flag, int on)
{
    char *found, dash;

    for (dash = '-'; (found = strchr(domain->flags, dash)) || (found = strchr(domain->flags, flag)); )
        memmove(found, found + 1, strlen(found));
    if (on && strlen(domain->flags) < sizeof(domain->flags) - 1)
        domain->flags[strlen(domain->flags)] = flag;
}

LAB_UNUSED static void lab_text(const char *name, char *text, size_t size)
{
    char path[LAB_PATH];
    FILE *file = fopen(lab_path(path, "%s", name), "re");

    text[file ? fread(text, 1, size - 1, file) : 0] = 0;
    if (file)
        fclose(file);
    text[strcspn(text, "\n")] = 0;
}

/* Domids are given out upwards and never twice between two boots. */
LAB_UNUSED static uint32_t lab_next_domid(void)
{
    char path[LAB_PATH], text[16] = "";
    uint32_t domid = 1;
    int fd = open(lab_path(path, "next_domid"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return 0;
    flock(fd, LOCK_EX);
    if (pread(fd, text, sizeof(text) - 1, 0) > 0)
        domid = strtoul(text, NULL, 10);
    snprintf(text, sizeof(text), "%u\n", domid + 1);
    if (ftruncate(fd, 0) || pwrite(fd, text, strlen(text), 0) < 0)
        domid = 0;
    close(fd);
    return domid;
}

static int lab_by_number(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return a < b ? -1 : a > b;
}

/* The domains with an id of at least first, lowest first, as XEN_SYSCTL_getdomaininfolist gives them. */
LAB_UNUSED static unsigned int lab_list(uint32_t first, unsigned int max, struct lab_domain *out)
{
    static uint32_t domids[LAB_DOMIDS];
    unsigned int known = 0, count = 0;
    char path[LAB_PATH];
    struct dirent *entry;
    DIR *folder;

    if (max == 1 && lab_read_domain(first, out))
        return 1;
    folder = opendir(lab_path(path, "domains"));
    if (!folder)
        return 0;
    while (known < LAB_DOMIDS && (entry = readdir(folder)))
        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
            domids[known++] = strtoul(entry->d_name, NULL, 10);
    closedir(folder);
    qsort(domids, known, sizeof(*domids), lab_by_number);
    for (unsigned int i = 0; i < known && count < max; i++)
        if (domids[i] >= first && lab_read_domain(domids[i], &out[count]))
            count++;
    return count;
}

/* What no domain has. */
LAB_UNUSED static unsigned long lab_free_kib(void)
{
    struct lab_domain *all = calloc(LAB_DOMIDS, sizeof(*all));
    unsigned int count = all ? lab_list(0, LAB_DOMIDS, all) : 0;
    unsigned long used;
    char text[32];

    lab_text("taken", text, sizeof(text));
    used = strtoul(text, NULL, 10);
    for (unsigned int i = 0; i < count; i++)
        used += all[i].mem;
    free(all);
    return used < LAB_TOTAL_KIB ? LAB_TOTAL_KIB - used : 0;
}

#endif

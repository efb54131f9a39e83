/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/*
 * Preloaded into the real xenstored or oxenstored: what these daemons ask of a hypervisor.
 * They ask little: event channels, the mapping of a guest's ring page, and which domains live.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/resource.h>
#define XC_WANT_COMPAT_MAP_FOREIGN_API
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#include "hypervisor.h"

/*
 * ---- files elsewhere: the two by which Linux's xenfs tells the daemon of dom0's own ring, and the
 * plug-in that oxenstored of 4.20 looks for in a fixed place, when it runs out of another root ----
 */

static const char *redirected(const char *path, char *buffer)
{
    const char *prefix = getenv("XEN_LAB_PREFIX");

    if (prefix && !strncmp(path, "/usr/lib/xen-", 13)) {
        snprintf(buffer, LAB_PATH, "%s%s", prefix, path);
        return buffer;
    }
    if (!strcmp(path, "/proc/xen/xsd_kva"))
        return lab_path(buffer, "dom0_ring");
    if (!strcmp(path, "/proc/xen/xsd_port"))
        return lab_path(buffer, "dom0_port");
    return path;
}

static int real_open(const char *symbol, const char *path, int flags, mode_t mode)
{
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, symbol);
    char buffer[LAB_PATH];

    return next(redirected(path, buffer), flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return real_open("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return real_open("open64", path, flags, mode);
}

int stat(const char *path, struct stat *status)
{
    char buffer[LAB_PATH];

    return ((int (*)(const char *, struct stat *))dlsym(RTLD_NEXT, "stat"))(redirected(path, buffer), status);
}

int stat64(const char *path, struct stat64 *status)
{
    char buffer[LAB_PATH];

    return ((int (*)(const char *, struct stat64 *))dlsym(RTLD_NEXT, "stat64"))(redirected(path, buffer), status);
}

DIR *opendir(const char *path)
{
    char buffer[LAB_PATH];

    return ((DIR *(*)(const char *))dlsym(RTLD_NEXT, "opendir"))(redirected(path, buffer));
}

void *dlopen(const char *path, int flags)
{
    char buffer[LAB_PATH];

    return ((void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen"))(path ? redirected(path, buffer) : path,
                                                                     flags);
}

/* oxenstored raises its limits at start and ends where it may not: an ordinary user runs the lab too. */
int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    (void)resource, (void)limit;
    return 0;
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
    (void)resource, (void)limit;
    return 0;
}

/* ---- event channels ---- */

static int events = -1;

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    char path[LAB_PATH];

    (void)logger;
    /* a live update hands the descriptor on */
    if (events < 0)
        events = open(lab_path(path, "evtchn"), O_RDWR | O_NONBLOCK | (flags & XENEVTCHN_NO_CLOEXEC ? 0 : O_CLOEXEC));
    return events < 0 ? NULL : (xenevtchn_handle *)&events;
}

xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned int flags)
{
    events = fd;
    return xenevtchn_open(logger, flags);
}

int xenevtchn_close(xenevtchn_handle *handle)
{
    (void)handle;
    close(events);
    events = -1;
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *handle)
{
    (void)handle;
    return events;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *handle, uint32_t domid,
                                                     evtchn_port_t port)
{
    (void)handle, (void)port;
    return LAB_PORT_DOMAIN + domid;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *handle, unsigned int virq)
{
    (void)handle, (void)virq;
    return LAB_PORT_VIRQ;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *handle)
{
    uint32_t port;

    (void)handle;
    return read(events, &port, sizeof(port)) == sizeof(port) ? (int)port : -1;
}

int xenevtchn_unmask(xenevtchn_handle *handle, evtchn_port_t port)
{
    (void)handle, (void)port;
    return 0;
}

int xenevtchn_unbind(xenevtchn_handle *handle, evtchn_port_t port)
{
    (void)handle, (void)port;
    return 0;
}

int xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port)
{
    char path[LAB_PATH];
    int fd;

    (void)handle;
    if (port <= LAB_PORT_DOMAIN)
        return 0;
    fd = open(lab_path(path, "kick/%u", port - LAB_PORT_DOMAIN), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        /* a full pipe already holds a wake-up */
        if (write(fd, "", 1) < 0 && errno != EAGAIN)
            perror("lab shim: kick");
        close(fd);
    }
    return 0;
}

/* ---- a guest's ring page: by grant in C xenstored, by frame in oxenstored ---- */

static int grants;

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned int flags)
{
    (void)logger, (void)flags;
    return (xengnttab_handle *)&grants;
}

int xengnttab_close(xengnttab_handle *handle)
{
    (void)handle;
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *handle, uint32_t count)
{
    (void)handle, (void)count;
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *handle, uint32_t domid, uint32_t ref, int prot)
{
    (void)handle, (void)ref, (void)prot;
    return lab_page("ring/%u", domid);
}

int xengnttab_unmap(xengnttab_handle *handle, void *start, uint32_t count)
{
    (void)handle;
    return munmap(start, count * LAB_PAGE);
}

void *xc_map_foreign_range(xc_interface *xch, uint32_t domid, int size, int prot, unsigned long frame)
{
    (void)xch, (void)size, (void)prot, (void)frame;
    return lab_page("ring/%u", domid);
}

/* ---- which domains live ---- */

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *builder, unsigned int flags)
{
    (void)logger, (void)builder, (void)flags;
    return (xc_interface *)&grants;
}

int xc_interface_close(xc_interface *xch)
{
    (void)xch;
    return 0;
}

static void describe(const struct lab_domain *domain, xc_domaininfo_t *info)
{
    memset(info, 0, sizeof(*info));
    info->domain = domain->domid;
    info->flags = (lab_has(domain, 'd') ? XEN_DOMINF_dying : 0) |
                  (lab_has(domain, 's') ? XEN_DOMINF_shutdown : 0);
    memcpy(info->handle, domain->uuid, sizeof(domain->uuid));
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned int max, xc_domaininfo_t *info)
{
    struct lab_domain domain;
    unsigned int count;

    (void)xch;
    for (count = 0; count < max && lab_list(first, 1, &domain); count++) {
        describe(&domain, &info[count]);
        first = domain.domid + 1;
    }
    return count;
}

#if XEN_MINOR >= 18
int xc_domain_getinfo_single(xc_interface *xch, uint32_t domid, xc_domaininfo_t *info)
{
    struct lab_domain domain;

    (void)xch;
    if (!lab_read_domain(domid, &domain)) {
        errno = ESRCH;
        return -1;
    }
    if (info)
        describe(&domain, info);
    return 0;
}
#else
int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int max, xc_dominfo_t *info)
{
    struct lab_domain domain;
    unsigned int count;

    (void)xch;
    for (count = 0; count < max && lab_list(first, 1, &domain); count++) {
        memset(&info[count], 0, sizeof(*info));
        info[count].domid = domain.domid;
        info[count].dying = lab_has(&domain, 'd');
        info[count].shutdown = lab_has(&domain, 's');
        info[count].crashed = info[count].shutdown && domain.reason == SHUTDOWN_crash;
        first = domain.domid + 1;
    }
    return count;
}
#endif

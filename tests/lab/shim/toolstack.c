/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/*
 * Preloaded into the real xl (and xen-init-dom0): the hypercalls that libxl makes are answered here.
 *
 * Everything libxl imports from libxenctrl, libxenguest, libxenevtchn and libxenhypfs and that is
 * neither defined below nor able to run without a hypervisor becomes "return 0"; build.py generates
 * those stubs from libxl's own import table.  A guest is never built: its kernel must only be there
 * and readable, its content does not matter.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#define XC_WANT_COMPAT_MAP_FOREIGN_API
#include <xenctrl.h>
#include <xenguest.h>
#include <xenevtchn.h>

#include "hypervisor.h"

#define CPUS 4
#define PAGES(kib) ((kib) / (LAB_PAGE >> 10))

/* A handle that libxc itself made, only without a way into the hypervisor: its loggers are real. */
xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *builder, unsigned int flags)
{
    xc_interface *(*next)(xentoollog_logger *, xentoollog_logger *, unsigned int) =
        (xc_interface *(*)(xentoollog_logger *, xentoollog_logger *, unsigned int))
        dlsym(RTLD_NEXT, "xc_interface_open");

    return next(logger, builder, flags | XC_OPENFLAG_DUMMY);
}

/* ---- the host ---- */

#define CAPABILITIES "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
#define EXTRAVERSION ".0-lab"

int xc_version(xc_interface *xch, int command, void *out)
{
    (void)xch;
    switch (command) {
    case XENVER_version:
        return 4 << 16 | XEN_MINOR;
    case XENVER_extraversion:
        strcpy(out, EXTRAVERSION);
        return 0;
    case XENVER_compile_info: {
        xen_compile_info_t *info = out;

        memset(info, 0, sizeof(*info));
        strcpy(info->compiler, "none");
        strcpy(info->compile_by, "lab");
        strcpy(info->compile_domain, "lab");
        strcpy(info->compile_date, "none");
        return 0;
    }
    case XENVER_capabilities:
        strcpy(out, CAPABILITIES);
        return 0;
    case XENVER_changeset:
        strcpy(out, "none");
        return 0;
    case XENVER_platform_parameters:
        memset(out, 0, sizeof(xen_platform_parameters_t));
        return 0;
    case XENVER_pagesize:
        return LAB_PAGE;
    case XENVER_commandline:
        lab_text("commandline", out, sizeof(xen_commandline_t));
        return 0;
    }
    errno = ENOSYS;
    return -1;
}

#if XEN_MINOR >= 18
char *xc_xenver_extraversion(xc_interface *xch)
{
    (void)xch;
    return strdup(EXTRAVERSION);
}

char *xc_xenver_capabilities(xc_interface *xch)
{
    (void)xch;
    return strdup(CAPABILITIES);
}

char *xc_xenver_changeset(xc_interface *xch)
{
    (void)xch;
    return strdup("none");
}

char *xc_xenver_commandline(xc_interface *xch)
{
    xen_commandline_t text;

    (void)xch;
    lab_text("commandline", text, sizeof(text));
    return strdup(text);
}

char *xc_xenver_buildid(xc_interface *xch)
{
    (void)xch;
    return strdup("");
}
#endif

int xc_physinfo(xc_interface *xch, xc_physinfo_t *info)
{
    (void)xch;
    memset(info, 0, sizeof(*info));
    info->threads_per_core = 1;
    info->cores_per_socket = CPUS;
    info->nr_cpus = CPUS;
    info->max_cpu_id = CPUS - 1;
    info->nr_nodes = 1;
    info->cpu_khz = 1000000;
    info->total_pages = info->max_mfn = PAGES(LAB_TOTAL_KIB);
    info->free_pages = PAGES(lab_free_kib());
    info->capabilities = XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_hap |
                         XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2;
    return 0;
}

int xc_get_max_cpus(xc_interface *xch)
{
    (void)xch;
    return CPUS;
}

int xc_get_online_cpus(xc_interface *xch)
{
    (void)xch;
    return CPUS;
}

int xc_get_max_nodes(xc_interface *xch)
{
    (void)xch;
    return 1;
}

int xc_numainfo(xc_interface *xch, unsigned int *count, xc_meminfo_t *memory, uint32_t *distance)
{
    (void)xch;
    *count = 1;
    if (memory) {
        memory->memsize = LAB_TOTAL_KIB << 10;
        memory->memfree = lab_free_kib() << 10;
    }
    if (distance)
        *distance = 10;
    return 0;
}

int xc_cputopoinfo(xc_interface *xch, unsigned int *count, xc_cputopo_t *cpus)
{
    (void)xch;
    *count = CPUS;
    for (unsigned int i = 0; cpus && i < CPUS; i++)
        cpus[i] = (xc_cputopo_t){ .core = i };
    return 0;
}

int xc_sched_id(xc_interface *xch, int *id)
{
    (void)xch;
    *id = XEN_SCHEDULER_CREDIT2;
    return 0;
}

xc_cpupoolinfo_t *xc_cpupool_getinfo(xc_interface *xch, uint32_t pool)
{
    xc_cpupoolinfo_t *info;

    (void)xch;
    if (pool) {
        errno = ENOENT;
        return NULL;
    }
    info = calloc(1, sizeof(*info));
    info->sched_id = XEN_SCHEDULER_CREDIT2;
    info->n_dom = 1;
    info->cpumap = calloc(1, 8);
    info->cpumap[0] = (1 << CPUS) - 1;
    return info;
}

void xc_cpupool_infofree(xc_interface *xch, xc_cpupoolinfo_t *info)
{
    (void)xch;
    if (info)
        free(info->cpumap);
    free(info);
}

int xc_get_machine_memory_map(xc_interface *xch, struct e820entry entries[], uint32_t max)
{
    (void)xch;
    if (!max)
        return 0;
    entries[0] = (struct e820entry){ .addr = 0, .size = LAB_TOTAL_KIB << 10, .type = 1 };
    return 1;
}

int xc_reserved_device_memory_map(xc_interface *xch, uint32_t flags, uint16_t segment, uint8_t bus,
                                  uint8_t devfn, struct xen_reserved_device_memory entries[], uint32_t *max)
{
    (void)xch, (void)flags, (void)segment, (void)bus, (void)devfn, (void)entries;
    *max = 0;
    return 0;
}

/* ---- domains ---- */

static void describe(const struct lab_domain *domain, xc_domaininfo_t *info)
{
    memset(info, 0, sizeof(*info));
    info->domain = domain->domid;
    memcpy(info->handle, domain->uuid, sizeof(domain->uuid));
    /* dom0 runs, it looks; a guest mostly waits */
    info->flags = lab_has(domain, 'p') ? XEN_DOMINF_paused : 0;
    if (!info->flags && !lab_has(domain, 's') && !lab_has(domain, 'd'))
        info->flags = domain->domid ? XEN_DOMINF_blocked : XEN_DOMINF_running;
    if (lab_has(domain, 'h'))
        info->flags |= XEN_DOMINF_hvm_guest | XEN_DOMINF_hap;
    if (lab_has(domain, 'd'))
        info->flags |= XEN_DOMINF_dying;
    if (lab_has(domain, 's'))
        info->flags |= XEN_DOMINF_shutdown | domain->reason << XEN_DOMINF_shutdownshift;
    info->tot_pages = PAGES(domain->mem);
    info->max_pages = PAGES(domain->max);
    info->nr_online_vcpus = domain->online;
    info->max_vcpu_id = domain->vcpus ? domain->vcpus - 1 : 0;
    info->gpaddr_bits = 40;
}

int xc_domain_getinfolist(xc_interface *xch, uint32_t first, unsigned int max, xc_domaininfo_t *info)
{
    struct lab_domain *found = calloc(max, sizeof(*found));
    unsigned int count;

    (void)xch;
    if (!found)
        return -1;
    count = lab_list(first, max, found);
    for (unsigned int i = 0; i < count; i++)
        describe(&found[i], &info[i]);
    free(found);
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
int xc_domain_getinfo(xc_interface *xch, uint32_t first, unsigned int max, xc_dominfo_t *out)
{
    xc_domaininfo_t info;
    unsigned int count;

    for (count = 0; count < max && xc_domain_getinfolist(xch, first, 1, &info) == 1; count++) {
        memset(&out[count], 0, sizeof(*out));
        out[count].domid = info.domain;
        out[count].hvm = !!(info.flags & XEN_DOMINF_hvm_guest);
        out[count].paused = !!(info.flags & XEN_DOMINF_paused);
        out[count].running = !!(info.flags & XEN_DOMINF_running);
        out[count].dying = !!(info.flags & XEN_DOMINF_dying);
        out[count].shutdown = !!(info.flags & XEN_DOMINF_shutdown);
        out[count].shutdown_reason = info.flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask;
        out[count].nr_pages = info.tot_pages;
        out[count].blocked = !!(info.flags & XEN_DOMINF_blocked);
        out[count].crashed = out[count].shutdown && out[count].shutdown_reason == SHUTDOWN_crash;
        out[count].max_memkb = info.max_pages * (LAB_PAGE >> 10);
        out[count].nr_online_vcpus = info.nr_online_vcpus;
        out[count].max_vcpu_id = info.max_vcpu_id;
        memcpy(out[count].handle, info.handle, sizeof(info.handle));
        first = info.domain + 1;
    }
    return count;
}
#endif

int xc_domain_create(xc_interface *xch, uint32_t *domid, struct xen_domctl_createdomain *config)
{
    struct lab_domain domain = { 0 };

    (void)xch;
    if (*domid == 0 || *domid >= LAB_DOMIDS)
        *domid = lab_next_domid();
    else if (lab_read_domain(*domid, &domain)) {
        errno = EEXIST;
        return -1;
    }
    memset(&domain, 0, sizeof(domain));
    domain.domid = *domid;
    domain.vcpus = config->max_vcpus;
    domain.online = 1; /* a guest brings up the others when it boots */
    strcpy(domain.flags, config->flags & XEN_DOMCTL_CDF_hvm ? "hp" : "p");
    memcpy(domain.uuid, config->handle, sizeof(domain.uuid));
    return lab_write_domain(&domain);
}

static void become_dying(struct lab_domain *domain, unsigned long unused)
{
    (void)unused;
    lab_flag(domain, 'd', 1);
}

/* Without 'k' all of a domain is free at once: nobody here holds pages of it. */
int xc_domain_destroy(xc_interface *xch, uint32_t domid)
{
    struct lab_domain domain;
    char path[LAB_PATH];
    int rc;

    (void)xch;
    if (!lab_read_domain(domid, &domain)) {
        errno = ESRCH;
        return -1;
    }
    rc = lab_has(&domain, 'k') ? lab_change(domid, become_dying, 0) : unlink(lab_path(path, "domains/%u", domid));
    lab_raise(LAB_PORT_VIRQ);
    return rc;
}

static void set_paused(struct lab_domain *domain, unsigned long on)
{
    lab_flag(domain, 'p', on);
}

int xc_domain_pause(xc_interface *xch, uint32_t domid)
{
    (void)xch;
    return lab_change(domid, set_paused, 1);
}

int xc_domain_unpause(xc_interface *xch, uint32_t domid)
{
    (void)xch;
    return lab_change(domid, set_paused, 0);
}

static void set_shutdown(struct lab_domain *domain, unsigned long reason)
{
    lab_flag(domain, 's', 1);
    domain->reason = reason;
}

int xc_domain_shutdown(xc_interface *xch, uint32_t domid, int reason)
{
    int rc = lab_change(domid, set_shutdown, reason);

    (void)xch;
    lab_raise(LAB_PORT_VIRQ);
    return rc;
}

static void set_vcpus(struct lab_domain *domain, unsigned long count)
{
    domain->vcpus = count;
}

int xc_domain_max_vcpus(xc_interface *xch, uint32_t domid, unsigned int count)
{
    (void)xch;
    return lab_change(domid, set_vcpus, count);
}

static void set_max(struct lab_domain *domain, unsigned long kib)
{
    domain->max = kib;
}

int xc_domain_setmaxmem(xc_interface *xch, uint32_t domid, uint64_t kib)
{
    (void)xch;
    return lab_change(domid, set_max, kib);
}

int xc_sched_credit2_domain_get(xc_interface *xch, uint32_t domid, struct xen_domctl_sched_credit2 *params)
{
    (void)xch, (void)domid;
    memset(params, 0, sizeof(*params));
    params->weight = 256;
    return 0;
}

const char *xc_domain_get_native_protocol(xc_interface *xch, uint32_t domid)
{
    (void)xch, (void)domid;
    return "x86_64-abi";
}

int xc_vcpu_getinfo(xc_interface *xch, uint32_t domid, uint32_t vcpu, xc_vcpuinfo_t *info)
{
    struct lab_domain domain;

    (void)xch;
    memset(info, 0, sizeof(*info));
    if (!lab_read_domain(domid, &domain) || vcpu >= (domain.vcpus ? domain.vcpus : 1)) {
        errno = ESRCH;
        return -1;
    }
    info->online = vcpu < domain.online;
    info->blocked = info->online && domid && !lab_has(&domain, 'p');
    info->running = info->online && !domid;
    info->cpu = vcpu % CPUS;
    return 0;
}

int xc_vcpu_getaffinity(xc_interface *xch, uint32_t domid, int vcpu, xc_cpumap_t hard, xc_cpumap_t soft,
                        uint32_t flags)
{
    (void)xch, (void)domid, (void)vcpu, (void)flags;
    if (hard)
        hard[0] = (1 << CPUS) - 1;
    if (soft)
        soft[0] = (1 << CPUS) - 1;
    return 0;
}

int xc_hvm_param_get(xc_interface *xch, uint32_t domid, uint32_t param, uint64_t *value)
{
    (void)xch, (void)domid, (void)param;
    *value = 0;
    return 0;
}

void *xc_map_foreign_range(xc_interface *xch, uint32_t domid, int size, int prot, unsigned long frame)
{
    (void)xch, (void)domid, (void)prot, (void)frame;
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* ---- event channels: libxl waits on them for nothing that happens here ---- */

static int events[2] = { -1, -1 };

xc_evtchn_port_or_error_t xc_evtchn_alloc_unbound(xc_interface *xch, uint32_t domid, uint32_t remote)
{
    static int port = 1;

    (void)xch, (void)domid, (void)remote;
    return port++;
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    (void)logger, (void)flags;
    return pipe(events) ? NULL : (xenevtchn_handle *)events;
}

int xenevtchn_fd(xenevtchn_handle *handle)
{
    (void)handle;
    return events[0];
}

int xenevtchn_close(xenevtchn_handle *handle)
{
    (void)handle;
    close(events[0]);
    close(events[1]);
    return 0;
}

/* ---- the guest's image: looked at, never built ---- */

/* A real file is refused with libxc's own words where it cannot be read; else it is as good as any. */
static int image_file(const char *symbol, struct xc_dom_image *dom, const char *path, const char *cmdline)
{
    int (*next)(struct xc_dom_image *, const char *, const char *);
    struct stat status;

    if (!access(path, R_OK) && !stat(path, &status) && !S_ISDIR(status.st_mode))
        return 0;
    next = (int (*)(struct xc_dom_image *, const char *, const char *))dlsym(RTLD_NEXT, symbol);
    return next(dom, path, cmdline);
}

int xc_dom_kernel_file(struct xc_dom_image *dom, const char *path)
{
    return image_file("xc_dom_kernel_file", dom, path, NULL);
}

int xc_dom_module_file(struct xc_dom_image *dom, const char *path, const char *cmdline)
{
    return image_file("xc_dom_module_file", dom, path, cmdline);
}

static void set_memory(struct lab_domain *domain, unsigned long kib)
{
    domain->mem = kib;
}

/* As libxc: first a claim on all of it, then the memory (meminit_hvm, meminit_pv of xg_dom_x86.c). */
static int memory_init(struct xc_dom_image *dom)
{
    unsigned long kib = (dom->target_pages ? dom->target_pages : dom->total_pages) * (LAB_PAGE >> 10);

    if (lab_free_kib() < kib) {
        errno = ENOMEM;
        return -1;
    }
    return lab_change(dom->guest_domid, set_memory, kib);
}

/* libxl asks the image's architecture for its page size when it writes a PVH guest's ACPI tables. */
static struct xc_dom_arch architecture = {
    .meminit = memory_init,
    .guest_type = "hvm-3.0-x86_32",
    .native_protocol = "x86_32-abi",
    .page_shift = 12,
    .sizeof_pfn = 4,
};

int xc_dom_parse_image(struct xc_dom_image *dom)
{
    dom->arch_hooks = &architecture;
    dom->xenstore_pfn = 0xfeffc;
    dom->console_pfn = 0xfeffe;
    return 0;
}

int xc_dom_boot_xen_init(struct xc_dom_image *dom, xc_interface *xch, uint32_t domid)
{
    dom->xch = xch;
    dom->guest_domid = domid;
    dom->xen_version = 4 << 16 | XEN_MINOR;
    strcpy(dom->xen_caps, CAPABILITIES);
    return 0;
}

/* As the real one, which looks for the architecture by the image's type and finds none. */
int xc_dom_mem_init(struct xc_dom_image *dom, unsigned int mib)
{
    dom->total_pages = PAGES((unsigned long)mib << 10);
    return 0;
}

/* Frames are named by number all over: nothing is ever mapped. */
bool xc_dom_translated(const struct xc_dom_image *dom)
{
    (void)dom;
    return true;
}

char *xc_dom_guest_os(struct xc_dom_image *dom)
{
    (void)dom;
    return "linux";
}

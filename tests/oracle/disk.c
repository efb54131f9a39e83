/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Asks the real parser: disk strings on stdin, each ended by a NUL, an answer a line on stdout.
 *   "ok" and key=value pairs: text as "s" and hexadecimal, NULL and unset three-valued options as "-"
 *   "err" and what the parser reported, in hexadecimal
 */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libxl.h>
#include <libxlutil.h>

static void hex(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", (unsigned char)text[i]);
}

static void text(const char *key, const char *value)
{
    printf(" %s=%s", key, value ? "s" : "-");
    if (value)
        hex(value, strlen(value));
}

static void number(const char *key, int value)
{
    printf(" %s=%d", key, value);
}

static void three(const char *key, libxl_defbool value)
{
    if (libxl_defbool_is_default(value))
        printf(" %s=-", key);
    else
        number(key, libxl_defbool_val(value));
}

static void answer(libxl_device_disk *disk)
{
    printf("ok");
    text("vdev", disk->vdev);
    text("target", disk->pdev_path);
    text("format", libxl_disk_format_to_string(disk->format));
    number("readwrite", disk->readwrite);
    text("backend", disk->backend_domname);
    text("backendtype", libxl_disk_backend_to_string(disk->backend));
    text("specification", libxl_disk_specification_to_string(disk->specification));
    text("script", disk->script);
    three("discard", disk->discard_enable);
    number("direct_io_safe", disk->direct_io_safe);
    three("trusted", disk->trusted);
#ifdef LIBXL_HAVE_DISK_GRANT_USAGE
    three("grant_usage", disk->grant_usage);
#endif
    number("cdrom", disk->is_cdrom);
    number("removable", disk->removable);
    three("colo", disk->colo_enable);
    text("colo_host", disk->colo_host);
    number("colo_port", disk->colo_port);
    text("colo_export", disk->colo_export);
    text("active_disk", disk->active_disk);
    text("hidden_disk", disk->hidden_disk);
    putchar('\n');
}

int main(void)
{
    char *spec = NULL;
    size_t room = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    while (getdelim(&spec, &room, 0, stdin) > 0) {
        char *report = NULL;
        size_t size = 0;
        FILE *sink = open_memstream(&report, &size);
        XLU_Config *cfg = sink ? xlu_cfg_init(sink, "oracle") : NULL;
        const char *specs[] = { spec };
        libxl_device_disk disk;

        if (!cfg)
            return 1;
        libxl_device_disk_init(&disk);
        if (xlu_disk_parse(cfg, 1, specs, &disk)) {
            fflush(sink);
            printf("err ");
            hex(report, size);
            putchar('\n');
        } else {
            answer(&disk);
        }
        libxl_device_disk_dispose(&disk);
        xlu_cfg_destroy(cfg);
        fclose(sink);
        free(report);
    }
    free(spec);
    return ferror(stdin) || fflush(stdout) ? 1 : 0;
}

/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Asks the real parser: texts of configurations on stdin, each ended by a NUL, an answer a line on stdout.
 *   "ok" and, for each setting, its key, "=", its value, "@" and what it is as a number ("-": none)
 *       a value is "s" and hexadecimal, or values between "[" and "]", each followed by ","
 *   "err" and what the parser reported, in hexadecimal
 * libxlutil cannot list settings, so every word of the text that could be a key is asked for.
 */

#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libxl.h>
#include <libxlutil.h>

static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyz";
static const char MORE[] = "._0123456789abcdefghijklmnopqrstuvwxyz";

static void hex(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", (unsigned char)text[i]);
}

static void show(XLU_Config *cfg, XLU_ConfigValue *value)
{
    char *text;
    XLU_ConfigList *list;
    XLU_ConfigValue *item;

    if (xlu_cfg_value_type(value) == XLU_STRING) {
        xlu_cfg_value_get_string(cfg, value, &text, 1);
        putchar('s');
        hex(text, strlen(text));
        return;
    }
    xlu_cfg_value_get_list(cfg, value, &list, 1);
    putchar('[');
    for (int i = 0; (item = xlu_cfg_get_listitem2(list, i)); i++) {
        show(cfg, item);
        putchar(',');
    }
    putchar(']');
}

static void setting(XLU_Config *cfg, const char *key)
{
    const char *text;
    XLU_ConfigList *list;
    XLU_ConfigValue *item;
    long number;

    if (!xlu_cfg_get_string(cfg, key, &text, 1)) {
        printf(" %s=s", key);
        hex(text, strlen(text));
    } else if (!xlu_cfg_get_list(cfg, key, &list, NULL, 1)) {
        printf(" %s=[", key);
        for (int i = 0; (item = xlu_cfg_get_listitem2(list, i)); i++) {
            show(cfg, item);
            putchar(',');
        }
        putchar(']');
    } else {
        return;
    }
    if (xlu_cfg_get_long(cfg, key, &number, 1))
        printf("@-");
    else
        printf("@%ld", number);
}

static void settings(XLU_Config *cfg, const char *config)
{
    char **seen = NULL;
    size_t count = 0;

    printf("ok");
    for (const char *start = config; (start = strpbrk(start, LETTERS)); start++) {
        char *key = strndup(start, strspn(start, MORE));
        bool known = false;

        for (size_t i = 0; i < count && !known; i++)
            known = !strcmp(seen[i], key);
        if (known) {
            free(key);
            continue;
        }
        setting(cfg, key);
        seen = realloc(seen, (count + 1) * sizeof(*seen));
        seen[count++] = key;
    }
    putchar('\n');
    while (count)
        free(seen[--count]);
    free(seen);
}

int main(void)
{
    char *config = NULL;
    size_t room = 0;
    ssize_t length;

    setvbuf(stdout, NULL, _IOLBF, 0);
    while ((length = getdelim(&config, &room, 0, stdin)) > 0) {
        char *report = NULL;
        size_t size = 0;
        FILE *sink = open_memstream(&report, &size);
        XLU_Config *cfg = sink ? xlu_cfg_init(sink, "oracle") : NULL;

        if (!cfg)
            return 1;
        if (xlu_cfg_readdata(cfg, config, length - 1)) {
            fflush(sink);
            printf("err ");
            hex(report, size);
            putchar('\n');
        } else {
            settings(cfg, config);
        }
        xlu_cfg_destroy(cfg);
        fclose(sink);
        free(report);
    }
    free(config);
    return ferror(stdin) || fflush(stdout) ? 1 : 0;
}

/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/*
 * What real daemons do now and then, on demand.  A text file says so: the program's own path followed by ".faults",
 * or the one that VIRTIO_DISK_STANDIN_FAULTS names.  It is read each time anew, so a test may change it at any time
 * (by renaming a new one into its place).  A line is
 *
 *     NAME WHAT [ms=N] [flag=FILE]
 *
 * NAME as in README.md.  WHAT is "all", a devid, or a target's path.  flag=FILE: it happens once, to whichever
 * daemon manages to remove that file.  A line "log FILE" is for where VIRTIO_DISK_STANDIN_LOG cannot be set.
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "standin.h"

#define WORDS 4

static FILE *open_faults(void)
{
    const char *named = getenv("VIRTIO_DISK_STANDIN_FAULTS");
    char path[PATH_MAX + sizeof(".faults")];
    ssize_t length;

    if (named)
        return fopen(named, "re");
    length = readlink("/proc/self/exe", path, PATH_MAX);
    if (length <= 0)
        return NULL;
    strcpy(path + length, ".faults");
    return fopen(path, "re");
}

static int split(char *line, char *words[WORDS])
{
    int count = 0;

    for (char *word = strtok(line, " \t\n"); word && count < WORDS; word = strtok(NULL, " \t\n"))
        words[count++] = word;
    return count;
}

static bool is_meant(const char *what, const struct disk *disk)
{
    char devid[12];

    if (!strcmp(what, "all"))
        return true;
    snprintf(devid, sizeof(devid), "%d", disk->devid);
    return !strcmp(what, devid) || (disk->wanted && !strcmp(what, disk->wanted)) ||
           (disk->params && !strcmp(what, disk->params));
}

bool fault(const char *name, const struct disk *disk, long *ms)
{
    char line[3 * PATH_ROOM], *words[WORDS];
    FILE *file = open_faults();
    bool found = false;

    while (file && !found && fgets(line, sizeof(line), file)) {
        int count = split(line, words);
        const char *flag = NULL;
        long wait = 0;

        if (count < 2 || strcmp(words[0], name) || !is_meant(words[1], disk))
            continue;
        for (int i = 2; i < count; i++) {
            if (!strncmp(words[i], "ms=", 3))
                wait = atol(words[i] + 3);
            else if (!strncmp(words[i], "flag=", 5))
                flag = words[i] + 5;
        }
        found = !flag || !unlink(flag);
        if (found && ms)
            *ms = wait;
    }
    if (file)
        fclose(file);
    if (found)
        say("fault on demand: %s", name);
    return found;
}

void die_if(const char *name, const struct disk *disk)
{
    if (fault(name, disk, NULL))
        kill(getpid(), SIGKILL);
}

/* Where targets opened and closed are recorded, or NULL. */
const char *log_file(void)
{
    static char path[3 * PATH_ROOM];
    const char *named = getenv("VIRTIO_DISK_STANDIN_LOG");
    char line[sizeof(path)], *words[WORDS];
    FILE *file;

    if (named)
        return named;
    file = open_faults();
    while (file && !*path && fgets(line, sizeof(line), file))
        if (split(line, words) == 2 && !strcmp(words[0], "log"))
            strcpy(path, words[1]);
    if (file)
        fclose(file);
    return *path ? path : NULL;
}

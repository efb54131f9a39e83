/*
 * Copyright (c) xen.virtio contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Asks libxl's own function for device numbers: vdevs on stdin, each ended by a NUL, a number a line on stdout.
 */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

/* Internal to libxl, and so only in its static library. */
int libxl__device_disk_dev_number(const char *virtpath, int *pdisk, int *ppartition);

int main(void)
{
    char *vdev = NULL;
    size_t room = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    while (getdelim(&vdev, &room, 0, stdin) > 0)
        printf("%d\n", libxl__device_disk_dev_number(vdev, NULL, NULL));
    free(vdev);
    return ferror(stdin) || fflush(stdout) ? 1 : 0;
}

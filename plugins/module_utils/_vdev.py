# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual device names and the device numbers libxl makes of them, both ways."""

from __future__ import annotations

import re
from functools import lru_cache

# The encodings of docs/man/xen-vbd-interface.7 (Xen) and of libxl__device_disk_dev_number.
_XVD_MAJOR = 202 << 8
_EXTENDED = 1 << 28
_MAX_DISK = (1 << 20) - 1
_MAX_PARTITION = 255
_INT_MAX = 2**31 - 1

# A C integer as sscanf's %i and strtoul's base 0 read it: hexadecimal, octal or decimal.
_C_INTEGER = r"(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)"
_DISK_PARTITION = re.compile(rf"d({_C_INTEGER})p({_C_INTEGER})\Z", re.ASCII)
_PLAIN_NUMBER = re.compile(rf"[ \t\n\v\f\r]*\+?({_C_INTEGER})\Z", re.ASCII)
_LETTERED = re.compile(r"(xvd|hd|sd)([a-z]*)([0-9]*)\Z", re.ASCII)

_HINT = "use xvda, xvda1, d0p0, hda, sda or a device number"


class VdevError(ValueError):
    """A virtual device name that is none, or of which libxl makes a wrong number."""


def _c_integer(text: str) -> int:
    """The value of a C integer literal (``0x1f``, ``017``, ``15``)."""
    if text[:2] in ("0x", "0X"):
        return int(text, 16)
    return int(text, 8) if text[0] == "0" else int(text[:20])  # of more digits the first are past all limits


def _drive(letters: str) -> int:
    """The index of drive ``letters``: a is 0, z is 25, aa is 26; "" is -1."""
    index = -1
    for letter in letters:
        index = (index + 1) * 26 + ord(letter) - ord("a")
        if index > _MAX_DISK:
            break
    return index


def _xen_number(disk: int, partition: int) -> int:
    if disk <= 15 and partition <= 15:
        return _XVD_MAJOR | disk << 4 | partition
    return _EXTENDED | disk << 8 | partition


def _lettered(vdev: str, family: str, letters: str, digits: str) -> int:
    disk = _drive(letters)
    if disk < 0:
        raise VdevError(f"vdev {vdev!r} has no drive letter (libxl would read a wrong device); {_HINT}")
    # Ten digits are past every limit; int() of a digit flood would be slow.
    partition = int(digits[:10] or 0)
    if digits[:1] != "0":  # a leading zero is no partition number
        if family == "xvd" and disk <= _MAX_DISK and partition <= _MAX_PARTITION:
            return _xen_number(disk, partition)
        if family == "hd" and disk <= 3 and partition <= 63:
            return (3 if disk < 2 else 22) << 8 | (disk & 1) << 6 | partition
        if family == "sd" and disk <= 15 and partition <= 15:
            return 8 << 8 | disk << 4 | partition
    limits = {"xvd": "xvda to disk 1048575, partitions 1-255", "hd": "hda-hdd, partitions 1-63"}
    raise VdevError(
        f"vdev {vdev!r} is outside what libxl knows "
        f"({limits.get(family, 'sda-sdp, partitions 1-15')}, no leading zero)"
    )


@lru_cache(maxsize=4096)
def devid(vdev: str) -> int:
    """The device number of ``vdev``, 0 to 2**31-1, as libxl__device_disk_dev_number computes it.

    Known forms: ``xvd``, ``hd`` and ``sd`` with letters and a partition, ``dNpM``, and a plain number (C
    integers: decimal, hexadecimal, octal). Aliases give one number: xvda = d0p0 = 51712 = 0xca00.
    Raises VdevError for everything libxl refuses, and for what libxl takes but computes wrongly: no drive
    letter (``xvd``, ``hd``), signs or blanks inside a name (``xvda 1``, ``d-1p0``), numbers that overflow
    into range, and the empty name (device 0).
    """
    found = _LETTERED.match(vdev)
    if found:
        return _lettered(vdev, found[1], found[2], found[3])
    found = _DISK_PARTITION.match(vdev)
    if found:
        disk, partition = _c_integer(found[1]), _c_integer(found[2])
        if disk <= _MAX_DISK and partition <= _MAX_PARTITION:
            return _xen_number(disk, partition)
        raise VdevError(f"vdev {vdev!r} is out of range: disk 0-{_MAX_DISK}, partition 0-{_MAX_PARTITION}")
    found = _PLAIN_NUMBER.match(vdev)
    if found:
        number = _c_integer(found[1])
        if number <= _INT_MAX:
            return number
        raise VdevError(f"vdev {vdev!r} is out of range: a device number is 0 to {_INT_MAX}")
    if not vdev:
        raise VdevError(f"vdev is empty (libxl would read device 0); {_HINT}")
    raise VdevError(f"vdev {vdev!r} is not a virtual device name; {_HINT}")


def _letters(index: int) -> str:
    text = ""
    while index >= 0:
        index, digit = divmod(index, 26)
        index -= 1
        text = chr(ord("a") + digit) + text
    return text


def canonical(number: int) -> str | None:
    """The usual name of device ``number`` (51713 is ``xvda1``), or None where it has none but the number.

    ``devid(canonical(n)) == n`` for every n that has a name.
    """
    if number >> 8 == 202:
        name, partition = "xvd" + _letters(number >> 4 & 15), number & 15
    elif number >> 28 == 1:
        disk, partition = number >> 8 & _MAX_DISK, number & 255
        if disk <= 15 and partition <= 15:
            return None
        name = "xvd" + _letters(disk)
    elif number >> 8 in (3, 22):
        name, partition = "hd" + _letters((0 if number >> 8 == 3 else 2) + (number >> 6 & 3)), number & 63
        if number & 128:  # a minor past the second drive of its channel
            return None
    elif number >> 8 == 8:
        name, partition = "sd" + _letters(number >> 4 & 15), number & 15
    else:
        return None
    return f"{name}{partition}" if partition else name

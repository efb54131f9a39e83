# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk strings and disks to try on a parser: plausible ones, wrong ones, and noise."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

FORMATS = ["raw", "qcow", "qcow2", "vhd", "qed", "empty"]
_VALUES = {
    "format": [*FORMATS, "", "vmdk"],
    "devtype": ["cdrom", "disk", "", "tape"],
    "access": ["r", "ro", "rw", "w", "", "x"],
    "backend": ["DomD", "0", "1", "", "a:b", " x "],
    "backendtype": ["phy", "tap", "qdisk", "standalone", "", "other", "virtio"],
    "specification": ["xen", "virtio", "", "nvme"],
    "vdev": ["xvda", "hdc", "", "a:b"],
    "script": ["block-iscsi", "", "a=b:c"],
    "target": ["/dev/x", "", "/a,b", ","],
    "colo-host": ["h", ""],
    "colo-port": ["0", "7", " 8x", "-5", "4294967296", "99999999999999999999", "x", ""],
    "colo-export": ["e", ""],
    "active-disk": ["/a", ""],
    "hidden-disk": ["/h", ""],
    "grant_usage": ["0", "1", "10", "1/a", "true", "2", ""],
    "foo": ["bar", "b", "=", ""],
    "transport": ["mmio"],
    "backend_type": ["qemu"],
}
_KEYED = st.sampled_from([f"{key}={value}" for key, values in _VALUES.items() for value in values])
_WORDS = st.sampled_from(
    [
        *("cdrom", "discard", "no-discard", "direct-io-safe", "colo", "no-colo", "trusted", "untrusted"),
        *("virtio", "grant_usage=1", "grant_usage=0"),
    ]
)
_PREFIXES = st.sampled_from(
    [
        *("raw:", "qcow:", "qcow2:", "vhd:", "iscsi:", "nbd:", "enbd:", "drbd:", "tapdisk:", "tap:", "tap2:"),
        *("aio:", "ioemu:", "file:", "phy:", "qed:", "foo:", "a-b:"),
    ]
)
_POSITIONAL = st.sampled_from(
    [
        *("", "/dev/x", "/a:b", "a:b", "/a=b", "é", "\udcff", "xvda", "hdc:cdrom", "xvda:disk", "xvda:tape"),
        *(":cdrom", "r", "w", "ro", "rw", *FORMATS),
    ]
)
_BLANKS = st.sampled_from(["", "", "", " ", "\t ", "  "])
_ATOMS = st.one_of(_KEYED, _WORDS, _PREFIXES, _POSITIONAL, _BLANKS, st.sampled_from(list("=:,a0-_ A/é\r\v")))

_token = st.tuples(_BLANKS, st.one_of(st.just(""), _PREFIXES), st.one_of(_KEYED, _WORDS, _POSITIONAL)).map(
    "".join
)
_sound = st.tuples(
    st.sampled_from(
        ["/dev/x", "phy:/dev/x", "", "vdev=xvda,/a", "/a,raw,xvda", "/a,,hdc,cdrom", "hdc:cdrom", ","]
    ),
    st.lists(st.one_of(_WORDS, _KEYED, _POSITIONAL), max_size=5),
    st.sampled_from(["", "", ",target=/a,b", ",,", ",=", "="]),
).map(lambda parts: ",".join([parts[0], *parts[1]]) + parts[2])
_noise = st.text(st.characters(exclude_characters="\n\0", exclude_categories=()), max_size=20).filter(
    lambda text: not any("\ud800" <= letter < "\udc80" or "\udcff" < letter <= "\udfff" for letter in text)
)

#: Strings a parser may be asked: one line, without NUL.
DISK_STRINGS = st.one_of(
    _sound,
    _sound,
    st.lists(_token, max_size=8).map(",".join),
    st.lists(_ATOMS, max_size=8).map("".join),
    _noise,
)

_carried = st.text(
    st.one_of(st.sampled_from('ab/:=- ,é\t"'), st.characters(exclude_characters="\n\0", codec="utf-8")),
    max_size=12,
)
_no_comma = _carried.map(lambda text: text.replace(",", "."))
_maybe = st.one_of(st.none(), st.booleans())


def disks(*, newest: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings of disks that a string can carry; ``newest``: with the options that 4.19 brought."""
    later = {"trusted": _maybe, "grant_usage": _maybe} if newest else {}
    text = st.one_of(st.none(), _no_comma)
    cdrom = st.fixed_dictionaries({"devtype": st.just("cdrom"), "target": st.one_of(st.none(), _carried)})
    disk = st.fixed_dictionaries(
        {
            "target": st.one_of(
                st.sampled_from(["/dev/mmcblk0p3", "cdrom", "raw:/a", "/a,b,", " /a", "x:", ""]), _carried
            )
        }
    )
    rest = st.fixed_dictionaries(
        {
            "vdev": st.one_of(st.sampled_from(["xvda", "hdc", "d0p1", "51712", "a:b", ""]), _no_comma),
            "specification": st.sampled_from([None, "xen", "virtio"]),
        },
        optional={
            "format": st.sampled_from(FORMATS),
            "access": st.sampled_from(["rw", "ro"]),
            "backend": text,
            "backendtype": st.sampled_from(["phy", "tap", "qdisk", "standalone"]),
            "script": text,
            "discard": _maybe,
            "direct_io_safe": st.booleans(),
            "colo": _maybe,
            "colo_host": text,
            "colo_port": st.integers(-(2**31), 2**31 - 1).filter(bool),
            "colo_export": text,
            "active_disk": text,
            "hidden_disk": text,
            **later,
        },
    )
    return st.tuples(rest, st.one_of(disk, disk, cdrom)).map(lambda halves: {**halves[0], **halves[1]})


# --- configurations of guests ----------------------------------------------------------------------------

_config_token = st.one_of(
    st.sampled_from(
        [
            *(
                "memory",
                "disk",
                "a",
                "a.b_1",
                "x9",
                "0x",
                "9f",
                "512",
                "010",
                "True",
                "-1",
                "(",
                ":",
                "_",
                "é",
            ),
            *(
                "=",
                "+=",
                "=",
                "[",
                "]",
                "[",
                "]",
                ",",
                ",",
                ";",
                "\n",
                "\n",
                "#c\n",
                "#c",
                "#",
                "\r",
                " ",
                "\t",
            ),
            *('""', "''", "'a'", '"b"', "'\"'", '"\'"', "'", '"', "\\", "'\\n'", "'\\\\'", "'\\''", '"\\""'),
            *("'\\012'", "'\\01'", "'\\x41'", "'\\0 12'", "'\\0+1z'", "'\\q'", "'\\\n'", "'#;'", "'\\v\\a'"),
        ]
    ),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=3),
)
_quoted = st.tuples(
    st.sampled_from("'\""),
    st.lists(
        st.one_of(
            st.sampled_from(["a", " ", "#", ";", "=", ",", "[", "\t", "\r", "\x01", "é", "'", '"']),
            st.sampled_from(
                ["\\n", "\\t", "\\\\", "\\'", '\\"', "\\a", "\\077", "\\7 1", "\\0-1", "\\1", "\\z"]
            ),
        ),
        max_size=5,
    ).map("".join),
).map(lambda parts: parts[0] + parts[1] + parts[0])
_config_atom = st.one_of(st.sampled_from(["1", "0x1f", "010", "'x'"]), _quoted)
_nl = st.sampled_from(["", "", " ", "\n", " # c\n", "\n\n\t"])


def _listed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.tuples(inner, _nl, _nl), max_size=4)
    return st.tuples(_nl, items, st.sampled_from(["", ",", ",\n"])).map(
        lambda parts: (
            "["
            + parts[0]
            + ",".join(after + item + before for item, before, after in parts[1])
            + (parts[2] if parts[1] else "")
            + "]"
        )
    )


_config_value = st.recursive(_config_atom, _listed, max_leaves=6)
_assignment = st.tuples(
    st.sampled_from(["a", "b", "memory", "disk", "a.b"]),
    st.sampled_from([" = ", "=", " += ", "+="]),
    _config_value,
    st.sampled_from(["\n", "\n", ";", " # c\n", "\n\n", " ;\n"]),
).map("".join)

#: Texts a parser of configurations may be asked: no NUL.
CONFIG_TEXTS = st.one_of(
    st.lists(_assignment, max_size=5).map("".join),
    st.lists(_assignment, max_size=5).map("".join),
    st.tuples(st.lists(_assignment, max_size=3).map("".join), _config_token, _config_value).map("".join),
    st.lists(_config_token, max_size=10).map("".join),
    st.lists(_config_token, max_size=10).map(" ".join),
)

_awkward = st.text(
    st.one_of(
        st.sampled_from("ab01 \"'\\\n\r\t\a\b\f\v\x01\x7f#;=[],+xé\u2028\U0001f600"),
        st.characters(exclude_characters="\0", codec="utf-8"),
    ),
    max_size=15,
)
_numberlike = st.sampled_from(["0", "512", "010", "0x1f", "0X1F", "1e3", "-1", "+1", "1.5", "9f", "", " 1"])
_carried_value = st.recursive(
    st.one_of(_awkward, _numberlike), lambda inner: st.lists(inner, max_size=4), max_leaves=12
)

#: Settings that a configuration can carry.
CONFIG_SETTINGS = st.dictionaries(st.from_regex(r"\A[a-z][._0-9a-z]{0,8}\Z"), _carried_value, max_size=5)

# --- guests ----------------------------------------------------------------------------------------------

_word = _awkward.filter(bool)
_switch = st.one_of(st.booleans(), st.sampled_from(["yes", "no", 1, 0]))
_actions = st.sampled_from(["destroy", "restart", "rename-restart", "preserve", "coredump-destroy"])
_backend = st.sampled_from(["DomD", "0", 1, "Domain-0", "ä b"])
_vif = st.fixed_dictionaries(
    {},
    optional={
        "mac": st.sampled_from(["00:16:3e:0:0:1", "00:16:3E:AA:bb:0c"]),
        "bridge": _word.map(lambda text: text.replace(",", ".")).filter(bool),
        "backend": _backend.map(str),
        "ip": st.sampled_from(["10.0.0.1", "10.0.0.1 fe80::1"]),
        "trusted": st.booleans(),
        "mtu": st.integers(0, 9000),
    },
)
_device = st.fixed_dictionaries(
    {"type": st.integers(1, 64).map(lambda number: f"virtio,device{number:x}")},
    optional={"backend": _backend, "grant_usage": st.booleans()},
)
_names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: (
        name.isprintable()
        and "/" not in name
        and name == name.strip()
        and name[0] not in "-."
        and not (name.isascii() and name.isdigit())
        and name != "Domain-0"
    )
)

#: Guests of an inventory that a configuration of the newest release can carry.
GUESTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"name": _names},
    optional={
        "type": st.sampled_from(["pv", "pvh", "hvm"]),
        "memory": st.one_of(st.integers(1, 2**40), st.integers(1, 4096).map(str), st.just("0x200")),
        "vcpus": st.integers(1, 128),
        "cpus": st.one_of(st.sampled_from(["0-3,^1", "all", 2, "nodes:0,^1"]), st.just([0, "1-2"])),
        "kernel": _word,
        "ramdisk": _word,
        "cmdline": _awkward,
        "bootloader_args": st.lists(_awkward, max_size=3),
        "dtdev": st.lists(_awkward.map(lambda text: f"/{text}"), max_size=3),
        "irqs": st.lists(st.integers(0, 1019), max_size=3),
        "iomem": st.lists(
            st.tuples(*[st.integers(0, 2**52 - 1)] * 3).map(lambda n: f"{n[0]:x},{n[1]:x}@{n[2]:x}"),
            max_size=3,
        ),
        "pci": st.lists(
            st.sampled_from(["1:0.0", "0000:02:1f.7@3,seize=1", "name=nic,permissive=0"]), max_size=2
        ),
        "vif": st.lists(_vif, max_size=3),
        "virtio": st.lists(_device, max_size=3),
        "xenstore_quota": st.dictionaries(st.sampled_from(["nodes", "watches"]), st.integers(0, 2**32 - 1)),
        "on_crash": _actions,
        "localtime": _switch,
        "driver_domain": _switch,
        "rtc_timeoffset": st.integers(-(2**31), 2**31 - 1),
        "disks": st.lists(disks(), max_size=3),
        "extra_config": st.dictionaries(
            st.from_regex(r"\Ax_[._0-9a-z]{0,5}\Z"),
            st.one_of(_carried_value, st.integers(), st.booleans()),
            max_size=3,
        ),
    },
)

# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of one guest."""

from __future__ import annotations


class ModuleDocFragment:
    """Used as ``xen.virtio.guest``."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - The name of the guest, by which it is known from then on.
      - No slashes, control characters, or blanks at either end; not beginning with a dash or a dot; not only digits,
        which C(xl) takes for a domid.
    type: str
  uuid:
    description:
      - The UUID of the guest. Without one, C(xl) makes up a new one at each creation.
    type: str
  type:
    description:
      - What kind of guest it is. Left out, it is what C(xl) takes, V(pvh) on Arm and V(pv) on x86.
    type: str
    choices: [pv, pvh, hvm]
  memory:
    description:
      - Memory at start, in MiB.
    type: int
  maxmem:
    description:
      - The most memory the guest may be given, in MiB. Left out, it is O(memory).
    type: int
  vcpus:
    description:
      - Number of virtual CPUs that are online at start. Left out, it is 1.
    type: int
  maxvcpus:
    description:
      - The most virtual CPUs the guest may bring online. Left out, it is O(vcpus).
    type: int
  cpus:
    description:
      - The host's CPUs the guest may run on, as C(xl) writes them, such as V(0-3,^1), V(node:0) or V(all).
      - As a list, an entry for each virtual CPU.
    type: raw
  cpus_soft:
    description:
      - The host's CPUs the guest should rather run on, as O(cpus).
    type: raw
  pool:
    description:
      - The CPU pool of the guest.
    type: str
  cpu_weight:
    description:
      - The weight of the guest for the scheduler, 1 to 65535. Xen's own is 256.
    type: int
  cap:
    description:
      - The most CPU time of the guest, in hundredths of one CPU. V(0) is no limit.
    type: int
  kernel:
    description:
      - The kernel, a path on dom0.
      - Or a mapping with C(src) and C(checksum), V(sha256:) and 64 hexadecimal digits. The file is then stored on
        the host under a name that holds a part of its checksum, so that nothing is overwritten.
    type: raw
  ramdisk:
    description:
      - The ramdisk, as O(kernel).
    type: raw
  cmdline:
    description:
      - The command line of the kernel.
    type: str
  root:
    description:
      - The root device, put before O(extra) as C(root=) on the kernel's command line.
      - Mutually exclusive with O(cmdline), beside which C(xl) ignores it.
    type: str
  extra:
    description:
      - What follows O(root) on the kernel's command line.
      - Mutually exclusive with O(cmdline), beside which C(xl) ignores it.
    type: str
  firmware:
    description:
      - Boot with a firmware instead of O(kernel), V(pvgrub32) or V(pvgrub64). For V(hvm) guests also V(uefi),
        V(bios), V(ovmf), V(seabios), V(rombios) or a path.
    type: str
  bootloader:
    description:
      - A program run in dom0 that finds O(kernel) and O(ramdisk) on the guest's first disk, such as V(pygrub).
    type: str
  bootloader_args:
    description:
      - Arguments of O(bootloader).
    type: list
    elements: str
  bootloader_restrict:
    description:
      - Whether to run O(bootloader) with few rights.
      - Known to Xen 4.18 and newer.
    type: bool
  bootloader_user:
    description:
      - The user to run a restricted O(bootloader) as.
      - Known to Xen 4.18 and newer.
    type: str
  device_tree:
    description:
      - A partial device tree, compiled, whose C(/passthrough) and C(/aliases) become part of the guest's. As
        O(kernel).
    type: raw
  dtdev:
    description:
      - Devices passed through, by their paths in the host's device tree.
    type: list
    elements: str
  iomem:
    description:
      - Memory of devices the guest may use, V(START,NUMBER) or V(START,NUMBER@GFN), all of them pages in hexadecimal.
    type: list
    elements: str
  ioports:
    description:
      - I/O ports the guest may use, V(2f8-2ff) or V(2f8), in hexadecimal.
    type: list
    elements: str
  irqs:
    description:
      - Interrupts of the host passed through to the guest.
    type: list
    elements: int
  passthrough:
    description:
      - Whether devices can be passed through to the guest, and how the IOMMU is set up for it.
    type: str
    choices: [default, disabled, enabled, sync_pt, share_pt]
  pci:
    description:
      - PCI devices passed through, each as C(xl) writes it (V(0000:01:00.0) with V(@VSLOT) and V(,KEY=VALUE)), or as
        a mapping with C(bdf) or C(name), C(vslot), C(permissive), C(msitranslate), C(seize), C(power_mgmt) and
        C(rdm_policy).
    type: list
    elements: raw
  pci_msitranslate:
    description:
      - The C(msitranslate) of PCI devices that do not say it.
    type: bool
  pci_permissive:
    description:
      - The C(permissive) of PCI devices that do not say it.
    type: bool
  pci_power_mgmt:
    description:
      - The C(power_mgmt) of PCI devices that do not say it.
    type: bool
  pci_seize:
    description:
      - The C(seize) of PCI devices that do not say it.
    type: bool
  gic_version:
    description:
      - The version of the guest's interrupt controller. On Arm.
    type: str
    choices: [default, v2, v3]
  nr_spis:
    description:
      - Number of shared interrupts of the guest. Left out, C(xl) takes as many as the devices need. On Arm.
      - Known to Xen 4.19 and newer.
    type: int
  vuart:
    description:
      - A serial console that Xen emulates. It takes interrupt 32. On Arm.
    type: str
    choices: [unknown, sbsa_uart]
  tee:
    description:
      - The trusted execution environment the guest may use. On Arm.
      - V(ffa) is known to Xen 4.18 and newer.
    type: str
    choices: [none, optee, ffa]
  sve:
    description:
      - The longest vectors the guest may use, in bits. V(hw) is what the machine has. On Arm.
      - Known to Xen 4.18 and newer.
    type: str
    choices: [disabled, hw, '128', '256', '384', '512', '640', '768', '896', '1024', '1152', '1280', '1408',
    '1536', '1664', '1792', '1920', '2048']
  arm_sci:
    description:
      - The guest's access to the platform's firmware, such as V(type=scmi_smc). On Arm.
      - Known to Xen 4.21 and newer.
    type: str
  llc_colors:
    description:
      - Colors of the last level cache the guest's memory has, numbers and ranges.
      - Known to Xen 4.20 and newer.
    type: list
    elements: str
  trap_unmapped_accesses:
    description:
      - Whether an access to memory that nothing answers for is an error in the guest. On Arm, where it is so by
        default.
      - Known to Xen 4.21 and newer.
    type: bool
  vif:
    description:
      - Network devices, each as C(xl) writes it, or as a mapping of the same keys, C(mac), C(bridge),
        C(gatewaydev), C(ip), C(script), C(backend), C(vifname), C(model), C(rate), C(vlan), C(type), C(devid),
        C(mtu) and C(trusted).
    type: list
    elements: raw
  channel:
    description:
      - Channels, more consoles that is, each as C(xl) writes it.
    type: list
    elements: str
  serial:
    description:
      - Where the serial console goes, such as V(pty), or a list of such. Of V(hvm) guests.
    type: raw
  driver_domain:
    description:
      - Whether the guest serves devices to other guests.
    type: bool
  xenstore_quota:
    description:
      - Quotas of the guest in xenstore, by name.
      - Known to Xen 4.22 and newer.
    type: dict
  xenstore_feature_mask:
    description:
      - What of xenstore the guest is told of.
      - Known to Xen 4.21 and newer.
    type: int
  max_grant_frames:
    description:
      - Number of pages for the guest's grants. Virtio disks of a driver domain need grants.
    type: int
  max_maptrack_frames:
    description:
      - Number of pages for what the guest has mapped of other guests.
    type: int
  max_grant_version:
    description:
      - The newest version of grants the guest may use.
    type: int
  max_event_channels:
    description:
      - Number of event channels the guest may have.
    type: int
  shadow_memory:
    description:
      - Memory that Xen uses for the guest itself, in MiB. On x86.
    type: int
  seclabel:
    description:
      - The security label of the guest. A driver domain that serves virtio disks needs one that allows it.
    type: str
  init_seclabel:
    description:
      - The security label of the guest while it is created.
    type: str
  on_poweroff:
    description:
      - What happens to a guest that shuts itself down. Left out, it is V(destroy).
    type: str
    choices: &actions [destroy, restart, rename-restart, preserve, coredump-destroy, coredump-restart, soft-reset]
  on_reboot:
    description:
      - What happens to a guest that reboots. Left out, it is V(restart).
    type: str
    choices: *actions
  on_watchdog:
    description:
      - What happens to a guest whose watchdog ran out. Left out, it is V(destroy).
    type: str
    choices: *actions
  on_crash:
    description:
      - What happens to a guest that crashed. Left out, it is V(destroy).
    type: str
    choices: *actions
  on_soft_reset:
    description:
      - What happens to a guest that asks for a soft reset. Left out, it is V(soft-reset).
    type: str
    choices: *actions
  acpi:
    description:
      - Whether the guest gets ACPI tables.
    type: bool
  hap:
    description:
      - Whether to use the hardware's nested paging. On x86.
    type: bool
  e820_host:
    description:
      - Whether the guest gets the host's memory map. Of V(pv) guests; with O(pci) it is so by itself.
    type: bool
  vpmu:
    description:
      - Whether the guest may use performance counters.
    type: bool
  nomigrate:
    description:
      - Whether the guest may not be migrated or saved.
    type: bool
  localtime:
    description:
      - Whether the guest's clock shows local time instead of UTC.
    type: bool
  rtc_timeoffset:
    description:
      - Seconds by which the guest's clock is ahead.
    type: int
  tsc_mode:
    description:
      - How the guest sees the time stamp counter. On x86.
    type: str
    choices: [default, always_emulate, native, native_paravirt]
  disks:
    description:
      - The disks of the guest, in the order in which it is to see them. Each is a mapping as M(xen.virtio.disk)
        takes it, or a string of C(xl) in any release's spelling, version 6 of the virtio patches included.
      - In a mapping C(specification) is V(virtio) unless it is said; in a string it is what C(xl) makes of it.
      - C(base) and C(irq) are refused, since C(xl) gives them out.
    type: list
    elements: raw
  virtio:
    description:
      - Virtio devices other than disks, in the order in which the guest is to see them. Each is a string of C(xl),
        such as V(type=virtio,device22,transport=mmio,backend=DomD), its type alone, or a mapping with C(type),
        C(backend), C(transport) (V(mmio), which is the default) and C(grant_usage).
      - A type is V(virtio,device22), V(device22) for short, the number being the device's id in hexadecimal.
      - Known to Xen 4.18 and newer.
    type: list
    elements: raw
  extra_config:
    description:
      - Settings of C(xl) without an option here, by their names in C(xl.cfg). A value is text, a number, a
        boolean, which becomes 1 or 0, or a list, also of lists.
      - What C(xl) does not know it ignores without a word.
    type: dict
"""

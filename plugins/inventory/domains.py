# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin xen.virtio.domains."""

from __future__ import annotations

DOCUMENTATION = r"""
name: domains
author:
  - xen.virtio contributors (@xen-virtio)
version_added: 0.1.0
short_description: Domains of Xen hosts as hosts and groups
description:
  - Makes a host of every domain of the dom0 hosts that earlier inventory sources of the same run brought, and
    groups them by kind, by board, by state and by backend.
  - Each domain has the variable C(xen_domain), a mapping that O(compose), O(groups) and O(keyed_groups) can use.
  - The file has to end in C(xen.yml) or C(xen.yaml), and to come after the sources that it works on.
  - A name that Xen or a guest chose never becomes more than a name. What is no letter, digit, C(_), C(.) or C(-) is
    replaced by C(_), and of two domains that would be one host, one gets a checksum to its name, with a warning. No
    value is ever taken for a template.
  - Passwords in configurations are hidden.
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [xen.virtio.domains]
  source:
    description:
      - V(declared) are the guests that the hosts' variables declare, C(xen_guests) with C(xen_guest_defaults),
        C(xen_guest_overrides) and C(xen_guest_limit) put together as the filter P(xen.virtio.merge_guests#filter)
        does, and C(xen_driver_domains). Nothing is connected to.
      - V(live) are the domains that the hosts have now. Each is asked once, through its own connection and become
        plugins, O(forks) at a time. The places that the roles know count here too, C(xen_socket), C(xen_xl_path),
        C(xen_release), C(xen_userdata_dir), C(xen_config_dir) and C(xen_state_dir).
    type: str
    required: true
    choices: [declared, live]
  hosts:
    description: A host pattern that selects the dom0 hosts.
    type: str
    default: xen_dom0
  hostname:
    description:
      - A Jinja2 expression for a domain's host, with what O(compose) can use. If left out, empty or failing, it is
        C(<dom0>-<domain>).
      - What it gives is never a host that another source brought, whoever wrote what it is made of.
      - A driver domain that C(xen_driver_domains) maps to a host is that host.
    type: str
  group_prefix:
    description: What the names of all groups but those of O(groups) and O(keyed_groups) begin with.
    type: str
    default: xen_
  absent:
    description: With O(source=live), whether guests with a configuration on their host and no domain are hosts too.
    type: bool
    default: false
  xenstore:
    description:
      - With O(source=live), nodes to read of each domain, as paths below C(/local/domain/DOMID).
      - They are in C(xen_domain.xenstore) where dom0 alone can have written them, else in
        C(xen_domain.xenstore_untrusted).
    type: list
    elements: str
    default: []
  forks:
    description: How many hosts are read at a time. If left out, as many as tasks run on.
    type: int
  timeout:
    description: Seconds that a host may take, its connection included.
    type: float
    default: 30
  strict:
    description:
      - If V(true), a host that cannot be read, or whose guests cannot be put together, and an expression that
        fails, are an error, and the source brings nothing. Else they are a warning with the host's name (an
        expression that fails is skipped).
      - Ansible itself goes on with the other sources where one fails, unless
        C(ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED) is set.
extends_documentation_fragment:
  - constructed
  - inventory_cache
notes:
  - The groups are C(xen_dom0), C(xen_driver_domain), C(xen_guest), C(xen_board_<dom0>) with a dom0 and all of its
    domains, C(xen_state_<state>), C(xen_backend_<domain>) with the guests whose disks a domain of this name serves,
    and C(xen_unread) with the hosts that could not be read.
  - C(xen_domain) has C(name), C(dom0), C(kind) (V(guest) or V(driver_domain)), C(state), C(source), C(autostart),
    C(backends) and C(config), and with O(source=live) C(created_from), C(domid), C(uuid), C(made_by), C(reason),
    C(type), C(memory), C(maxmem), C(vcpus), C(maxvcpus) and C(disks) as M(xen.virtio.guest_info) has them, C(vifs)
    (C(devid), C(mac), C(ip), C(bridge), C(script)), C(xenstore) and C(xenstore_untrusted). A dom0 that was read has
    C(xen_host).
  - O(compose) is not for hosts that another source brought, such as driver domains with a host of their own; who
    brought a host says how it is reached.
  - The cache keeps what hosts told, host by host; a host that did not answer is asked again the next time. It is
    not used with O(source=declared).
  - While expressions are worked out C(dom0) is a mapping of the connection variables of the domain's dom0, with its
    C(inventory_hostname).
  - The password prompts C(-k) and C(-K) come too late for inventories; give passwords as variables.
  - Reads group_vars and host_vars as C(ansible.builtin.constructed) does with C(use_vars_plugins). Extra variables
    count.
seealso:
  - module: xen.virtio.guest_info
  - plugin: xen.virtio.merge_guests
    plugin_type: filter
"""

EXAMPLES = r"""
# domains.xen.yml, used as: ansible-inventory -i inventory/ -i domains.xen.yml --graph
# The guests that the inventory declares, with no connection at all.
plugin: xen.virtio.domains
source: declared

---
# What the hosts have now, reached through their dom0.
plugin: xen.virtio.domains
source: live
hosts: xen_dom0:!retired
compose:
  # the address that the guest's configuration gives its first interface
  ansible_host: xen_domain.vifs[0].ip
  ansible_ssh_common_args: "'-o ProxyJump=' ~ dom0.ansible_user | default('root') ~ '@' ~ dom0.ansible_host"
groups:
  lost_a_disk: xen_domain.disks | rejectattr('health', 'in', ['attached', 'unknown']) | length > 0
keyed_groups:
  - {prefix: made_by, key: xen_domain.made_by}
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /var/cache/inventory

---
# An address that the guest itself tells. It may tell any, so use it only where guests are trusted.
plugin: xen.virtio.domains
source: live
xenstore: [attr/vif/0/ipv4/0]
compose:
  ansible_host: xen_domain.xenstore_untrusted['attr/vif/0/ipv4/0']
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.helpers import get_group_vars
from ansible.inventory.manager import InventoryManager
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible.template import Templar
from ansible.utils.unsafe_proxy import wrap_var
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

from ..module_utils._guestpicture import DriverDomainsError, read_driver_domains
from ..module_utils._inventory import (
    Placed,
    Wish,
    declared_domains,
    groups_of,
    host_facts,
    live_domains,
    place,
)
from ..module_utils._inventory_read import MARK
from ..module_utils._merge import MergeError, entries, merge_guests
from ..plugin_utils._reach import Program, Target, ask_all, shown

#: A node below a domain's own.
_NODE = re.compile(r"[A-Za-z0-9_@:.-]+(?:/[A-Za-z0-9_@:.-]+)*\Z")

#: Options of the reader, by the hosts' variables that roles and playbooks know.
_PLACES = {
    "socket": "xen_socket",
    "xl_path": "xen_xl_path",
    "xen": "xen_release",
    "userdata": "xen_userdata_dir",
    "config_dir": "xen_config_dir",
    "state_dir": "xen_state_dir",
}

#: Of a source's name.
_ENDINGS = ("xen.yml", "xen.yaml")

#: So much earlier a host gives up by itself, so that its own reason can still be told.
_HEAD_START = 0.8

_Variables = dict[str, Any]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]  # Ansible has no types
    """Ansible looks for this name."""

    NAME = "xen.virtio.domains"

    def verify_file(self, path: str) -> bool:
        """Whether a source is for this plugin, by its name."""
        return bool(super().verify_file(path)) and path.endswith(_ENDINGS)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Bring domains into the inventory."""
        super().parse(inventory, loader, path, cache=cache)
        self._refuse_unknown(self._read_config_data(path))
        self._troubles: list[str] = []
        self._connections: dict[str, _Variables] = {}
        boards = self._boards()
        self._of_board = {name: self._variables(name) for name in boards}
        self._drivers = {name: self._driver_domains(name) for name in boards}
        if self.get_option("source") == "declared":
            found = {name: self._declared(name) for name in boards}
            facts: dict[str, dict[str, Any]] = {}
            silent: list[str] = []
        else:
            answers = self._answers(boards, path, cache)
            found = {
                name: live_domains(name, told, self._drivers[name], absent=self.get_option("absent"))
                for name, told in answers.items()
            }
            facts = {name: host_facts(told) for name, told in answers.items()}
            silent = [name for name in boards if name not in answers]
        if self._troubles and self.get_option("strict"):
            raise AnsibleParserError("; ".join(self._troubles))
        for trouble in self._troubles:
            self.display.warning(trouble)
        self._bring(boards, found, facts, silent)

    def _refuse_unknown(self, config: Mapping[str, Any]) -> None:
        """Ansible reads past an option that a plugin does not have."""
        known = list(self.option_definitions)
        for name in config:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise AnsibleParserError(f"{name}: xen.virtio.domains has no such option{hint}")

    # ---- the dom0 hosts ----

    def _boards(self) -> list[str]:
        """The hosts that are meant, in the inventory's order."""
        manager = InventoryManager(loader=self.loader, sources=None, parse=False)
        manager._inventory = self.inventory  # what earlier sources brought; a plugin is given no manager
        pattern = self.get_option("hosts")
        boards = [host.name for host in manager.get_hosts(pattern) if host.name in self.inventory.hosts]
        if not boards:
            self.display.warning(
                f"xen.virtio.domains: no host matches {pattern!r}; it works on hosts that earlier sources bring"
            )
        return boards

    def _variables(self, name: str) -> _Variables:
        """A host's variables, those of group_vars and host_vars among them."""
        host = self.inventory.hosts[name]
        everybody = self.inventory.groups["all"]
        groups = host.get_groups()
        groups = groups if everybody in groups else [everybody, *groups]
        sources = [*self.inventory.processed_sources]
        found = combine_vars(
            get_group_vars(groups), get_vars_from_inventory_sources(self.loader, sources, groups, "all")
        )
        found = combine_vars(found, host.get_vars())
        found = combine_vars(found, get_vars_from_inventory_sources(self.loader, sources, [host], "all"))
        return dict(combine_vars(found, self._vars))

    def _templar(self, variables: _Variables) -> Templar:
        return Templar(loader=self.loader, variables=variables)

    def _trouble(self, name: str, text: str) -> None:
        self._troubles.append(f"{name}: {text}")

    def _value(self, name: str, variable: str) -> Any:
        """A variable of a dom0 host, templated; None where it is not set, or cannot be worked out."""
        variables = self._of_board[name]
        if variable not in variables:
            return None
        try:
            return self._templar(variables).template(variables[variable])
        except AnsibleError as error:
            self._trouble(name, f"{variable}: {error}")
            return None

    def _driver_domains(self, name: str) -> dict[str, Any]:
        given = self._value(name, "xen_driver_domains")
        try:
            return {key: dict(said) for key, said in read_driver_domains(given or None).items()}
        except DriverDomainsError as error:
            self._trouble(name, str(error))
            return {}

    # ---- declared ----

    def _declared(self, name: str) -> list[dict[str, Any]]:
        given = [
            self._value(name, variable) or None
            for variable in ("xen_guest_defaults", "xen_guest_overrides", "xen_guest_limit")
        ]
        try:
            return declared_domains(name, merge_guests(self._guests(name), *given), self._drivers[name])
        except MergeError as error:
            self._trouble(name, str(error))
            return declared_domains(name, [], self._drivers[name])

    def _guests(self, name: str) -> Any:
        """``xen_guests`` of a host; where it cannot be worked out as a whole, what can be, option by option."""
        variables = self._of_board[name]
        templar = self._templar(variables)
        given = variables.get("xen_guests")
        try:
            return templar.template(given) or None
        except AnsibleError as error:
            if not isinstance(given, (Mapping, list)):
                self._trouble(name, f"xen_guests: {error}")
                return None
        guests = []
        for guest in entries(given):
            said = {}
            for option, value in guest.items():
                try:
                    said[option] = templar.template(value)
                except AnsibleError as error:
                    self._trouble(name, f"xen_guests: {guest['name']}: {option}: {error}")
            guests.append(said)
        return guests

    # ---- live ----

    def _answers(self, boards: list[str], path: str, cache: bool) -> dict[str, dict[str, Any]]:
        """What hosts told, now or, of those that are cached, then; in the order of `boards`."""
        common = self._common_options()
        known: dict[str, dict[str, Any]] = {}
        caching = self.get_option("cache")
        keys = {name: self._key(path, name, common) for name in boards}
        if caching and cache:
            for name, key in keys.items():
                try:
                    kept = self._cache[key]
                except KeyError:
                    continue
                if isinstance(kept, Mapping):
                    known[name] = dict(kept)
        for name, told in self._ask([name for name in boards if name not in known], common):
            known[name] = told
            if caching:
                self._cache[keys[name]] = told
        return {name: known[name] for name in boards if name in known}

    def _common_options(self) -> dict[str, Any]:
        nodes = self.get_option("xenstore")
        wrong = [node for node in nodes if not _NODE.match(node)]
        if wrong:
            raise AnsibleParserError(
                f"xenstore: {wrong[0]!r} is no path below a domain's own, such as data/name"
            )
        limit = float(self.get_option("timeout"))
        if limit <= 0:
            raise AnsibleParserError(f"timeout: {limit:g} is no time; give seconds")
        limit *= _HEAD_START
        return {
            "xenstore": list(nodes),
            "configs": self.get_option("absent"),
            "limit": limit,
            "timeout": min(10.0, limit / 2),
        }

    def _key(self, path: str, name: str, common: Mapping[str, Any]) -> str:
        what = json.dumps([path, name, common["xenstore"], common["configs"]])
        return f"{self.get_cache_key(path)}_{hashlib.sha256(what.encode()).hexdigest()[:16]}"

    def _ask(self, boards: list[str], common: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
        if not boards:
            return
        targets = []
        for name in boards:
            places = {key: self._value(name, variable) for key, variable in _PLACES.items()}
            given = {key: str(value) for key, value in places.items() if value}
            variables = self._of_board[name]
            targets.append(Target(name, variables, self._templar(variables), {**common, **given}))
        forks = int(self.get_option("forks") or context.CLIARGS.get("forks") or constants.DEFAULT_FORKS)
        program = Program.of("_inventory_read", MARK)
        errors = {}
        for name, answer in ask_all(program, targets, forks, float(self.get_option("timeout"))):
            if answer.told is None:
                errors[name] = answer.error
                continue
            for warning in _listed(answer.told.get("warnings")):
                self.display.warning(f"{name}: {shown(str(warning))}")
            yield name, answer.told
        for name in boards:
            if name in errors:
                self._trouble(name, f"its domains cannot be read: {errors[name]}")

    # ---- hosts and groups ----

    def _bring(
        self,
        boards: list[str],
        found: Mapping[str, list[dict[str, Any]]],
        facts: Mapping[str, dict[str, Any]],
        silent: list[str],
    ) -> None:
        wishes = [
            Wish(name, domain, self._hostname(name, domain))
            for name in boards
            for domain in found.get(name, [])
        ]
        foreign = set(self.inventory.hosts) - self._ours(wishes)
        others = foreign | set(self.inventory.groups)
        placement = place(wishes, self._drivers, boards, others)
        for warning in placement.warnings:
            self.display.warning(warning)
        for name, told in facts.items():
            self.inventory.set_variable(name, "xen_host", _inert(told))
        for one in placement.placed:
            self.inventory.add_host(one.host)
            self.inventory.set_variable(one.host, "xen_domain", _inert(dict(one.domain)))
        prefix = self.get_option("group_prefix")
        for group, hosts in groups_of(placement.placed, boards, silent, prefix).items():
            safe = self.inventory.add_group(group)
            for host in hosts:
                self.inventory.add_child(safe, host)
        if any(self.get_option(name) for name in ("compose", "groups", "keyed_groups")):
            for one in placement.placed:
                self._construct(one, compose=one.host not in foreign)

    def _ours(self, wishes: list[Wish]) -> set[str]:
        """Hosts that another source of this plugin made of the very domains that are met again here."""
        domains = {(wish.board, wish.domain["name"]) for wish in wishes}
        ours = set()
        for name, host in self.inventory.hosts.items():
            said = host.get_vars()
            known = said.get("xen_domain")
            brought = str(said.get("inventory_file"))
            if isinstance(known, Mapping) and (known.get("dom0"), known.get("name")) in domains:
                ours |= {name} if brought.endswith(_ENDINGS) else set()
        return ours

    def _dom0(self, name: str) -> _Variables:
        """The connection variables of a dom0, for expressions of its domains."""
        if name not in self._connections:
            self._connections[name] = self._connection_variables(name)
        return self._connections[name]

    def _connection_variables(self, name: str) -> _Variables:
        variables = self._of_board[name]
        templar = self._templar(variables)
        known: _Variables = {"inventory_hostname": name}
        for variable, value in variables.items():
            if variable.startswith("ansible_") and "pass" not in variable:
                try:
                    known[variable] = templar.template(value)
                except AnsibleError:
                    continue  # an expression that needs it will say so
        known.setdefault("ansible_host", name)
        return dict(_inert(known))

    def _hostname(self, name: str, domain: Mapping[str, Any]) -> str | None:
        """What the user's expression calls a domain; None where there is none, or it says nothing."""
        expression = self.get_option("hostname")
        if not expression:
            return None
        known = {"xen_domain": _inert(dict(domain)), "dom0": self._dom0(name)}
        try:
            composed = self._compose(expression, known)
        except Exception as error:
            if self.get_option("strict"):
                raise AnsibleParserError(f"hostname of {domain['name']} on {name}: {error}") from error
            return None
        return str(composed) if composed is not None and str(composed) else None

    def _construct(self, one: Placed, *, compose: bool) -> None:
        """What the user's own expressions make of a domain.

        Who brought a host says how it is reached: a domain's name must not send others' tasks elsewhere.
        """
        strict = self.get_option("strict")
        dom0 = {"dom0": self._dom0(one.board)}
        variables = {**self._variables(one.host), **dom0}
        if compose:
            self._set_composite_vars(self.get_option("compose"), variables, one.host, strict=strict)
            variables = {**self._variables(one.host), **dom0}
        self._add_host_to_composed_groups(
            self.get_option("groups"), variables, one.host, strict=strict, fetch_hostvars=False
        )
        self._add_host_to_keyed_groups(
            self.get_option("keyed_groups"), variables, one.host, strict=strict, fetch_hostvars=False
        )


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _inert(value: Any) -> Any:
    """A value that Ansible takes for what it is, whatever braces are in it."""
    return wrap_var(value)

# Copyright (c) xen.virtio contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The project's commands. Each prepares what it needs by itself (tests/setup.sh) and does nothing twice.

BIN := .venv/bin
MAKEFLAGS += --no-print-directory
# Ansible refuses to run without UTF-8, and a fresh machine has no locale set.
export LC_ALL := C.UTF-8
.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos lint docs sanity molecule matrix e2e bench build release clean

help: ## this list
	@echo 'make demo       watch a playbook provision virtio disks, on real parts of Xen; KEEP=1 leaves the host up'
	@echo 'make test       lint, unit and system tests; ARGS=... goes to pytest'
	@echo 'make chaos      launcher, views and daemons killed in random order for ROUNDS=500 rounds, SEED=1; as root'
	@echo 'make lint       ruff and mypy alone'
	@echo 'make docs       the pages of the documentation, in .cache/docs/html; asks the network for nothing'
	@echo 'make sanity     ansible-test sanity, ansible-lint, documentation and changelog checks'
	@echo 'make molecule   a backend, disks, guests, faults and a fleet of eight boards, on machines with systemd; as root'
	@echo 'make matrix     unit tests and ansible-test sanity on every ansible-core and Python that this machine has'
	@echo 'make e2e        tests on Xen for Arm with a dom0 and a driver domain, in an emulator; as root, 10 to 30 minutes'
	@echo 'make bench      what provisioning costs, beside the leanest client there is'
	@echo 'make build      the collection as a tarball, installed and looked at once'
	@echo 'make release    VERSION=x.y.z: checks, changelog, tarball and tag; nothing leaves this machine'
	@echo 'make setup      only what the others prepare first: Debian packages and .venv'
	@echo 'make clean      away with everything that these commands made (but not with Debian packages)'
	@echo
	@echo 'On Debian 12, as root where packages are missing. PYTHON=/path/to/python3 names a Python (3.11 or later).'

setup:
	@sh tests/setup.sh test

demo:
	@sh tests/setup.sh demo
	@$(BIN)/python tests/demo $(if $(KEEP),--keep)

lint:
	@sh tests/setup.sh test
	@sh tests/lint.sh

# All of it, also where lint has something to say: one run tells everything. A test of the system waits half of its
# time, so each processor has two of them. Tests press Ctrl-C, which whatever runs in the background ignores from birth.
# Of the scenarios of molecule the two shortest are run, where the machine can hold their hosts.
WORKERS := $(shell expr 2 '*' $$(nproc))
SHORTEST := -s disk -s guest
test:
	@sh tests/setup.sh $(if $(ARGS),test,molecule)
	@sh tests/lint.sh; lint=$$?; \
	env --default-signal=INT,QUIT XEN_VIRTIO_NO_SKIPS=1 ANSIBLE_HOME=$(CURDIR)/.cache/ansible \
		$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(ARGS); tests=$$?; \
	scenarios=0; $(if $(ARGS),,$(BIN)/python tests/molecule.py $(SHORTEST); scenarios=$$?;) \
	if [ $$lint -ne 0 ]; then echo 'lint has failed, see above' >&2; fi; \
	if [ $$tests -ne 0 ]; then echo 'tests have failed, see above' >&2; fi; \
	case $$scenarios in 0 | 77) ;; *) echo 'scenarios of molecule have failed, see above' >&2; exit 1 ;; esac; \
	[ $$tests -eq 0 ] && [ $$lint -eq 0 ]

chaos:
	@sh tests/setup.sh test
	@XEN_VIRTIO_NO_SKIPS=1 ANSIBLE_HOME=$(CURDIR)/.cache/ansible \
		XEN_VIRTIO_CHAOS_ROUNDS=$(or $(ROUNDS),500) XEN_VIRTIO_CHAOS_SEED=$(or $(SEED),1) \
		$(BIN)/python -m pytest tests/system/test_backend_chaos.py $(ARGS)

docs:
	@sh tests/setup.sh docs
	@sh tests/docs.sh

sanity:
	@sh tests/setup.sh sanity
	@sh tests/sanity/run.sh

molecule:
	@sh tests/setup.sh molecule
	@$(BIN)/python tests/molecule.py $(ARGS)

matrix:
	@sh tests/setup.sh matrix
	@$(BIN)/nox $(ARGS)

e2e:
	@sh tests/setup.sh e2e
	@$(BIN)/python tests/e2e $(ARGS)

bench:
	@sh tests/setup.sh test
	@$(BIN)/python tests/benchmarks $(ARGS)

build:
	@sh tests/setup.sh demo
	@sh tests/build.sh

release:
	@sh tests/setup.sh sanity
	@$(BIN)/ansible-playbook release/release.yml -e release_version=$(VERSION) $(ARGS)

clean:
	@rm -rf .cache .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache tests/output
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

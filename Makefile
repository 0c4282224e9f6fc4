# SPDX-License-Identifier: GPL-2.0-only
#
#   make vm-test [KERNEL=...] [FLAVOUR=release|debug] [MACHINE=...] [K=expr] [ACCEL=auto|kvm|tcg] [QEMU=...]
#                [SERIES=patches] [MUTATION=id] [SUITE=stress] [SEED=number] [JOBS=machines at once]
#   make vm-test-all [MACHINES="a b"]   the same on every machine of vm-configs/; fails if it does on any
#   make repro BUG=id [KERNEL=...]      a reported bug, beside a kernel without it: vfio-harness bugs list
#   make mutants    every reported bug, put back: does the suite catch it?
#   make test       everything: static checks, unit tests, robustness tests, the VM suite
#   make deps       set up what the others need, and nothing else
#   make shell      boot the machine and get a shell in the guest
#   make bench      boot-to-ready time against the kernel's own floor

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Only what was given on the command line or in the environment is passed on; the defaults are the tool's.
TARGET := $(if $(KERNEL),--kernel '$(KERNEL)') $(if $(FLAVOUR),--flavour '$(FLAVOUR)') \
	$(if $(MACHINE),--machine '$(MACHINE)') $(if $(ACCEL),--accel '$(ACCEL)') $(if $(QEMU),--qemu '$(QEMU)')
ARGS := $(TARGET) $(if $(SERIES),--series '$(SERIES)') $(if $(MUTATION),--mutation '$(MUTATION)')
CASES := $(if $(SUITE),--suite '$(SUITE)') $(if $(SEED),--seed '$(SEED)') $(if $(JOBS),--jobs '$(JOBS)') $(if $(K),-k '$(K)')

.PHONY: help deps test-deps bug-deps vm-test vm-test-all repro mutants test unit lint shell bench doctor clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

deps: $(VENV)/.ready
	@sh harness/host/install-packages.sh

test-deps: deps
	@sh harness/host/install-packages.sh test bugs

bug-deps: deps
	@sh harness/host/install-packages.sh bugs

# The host packages come first: python3-venv is one of them.
$(VENV)/.ready: pyproject.toml harness/host/install-packages.sh harness/host/packages.txt
	@sh harness/host/install-packages.sh
	@test -x $(BIN)/python || { echo "deps: creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "deps: installing the Python packages of pyproject.toml into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

vm-test: $(if $(MUTATION),bug-deps,deps)
	@$(BIN)/vfio-harness run $(ARGS) $(CASES)

# Every machine has its turn, whatever became of those before it. Of the exit codes, 1 (the kernel's fault) wins.
MACHINES ?= $(basename $(notdir $(shell grep -lE '^(machine|extends):' vm-configs/*.yaml)))
vm-test-all: deps
	@worst=0; summary=; for machine in $(MACHINES); do \
		echo "vm-test-all: $$machine"; \
		$(BIN)/vfio-harness run $(ARGS) --machine $$machine --focus $(CASES); code=$$?; \
		test $$code -eq 0 || test $$worst -eq 1 || worst=$$code; \
		summary="$$summary  $$machine: exit code $$code\n"; \
	done; printf "vm-test-all:\n$$summary"; exit $$worst

repro: bug-deps
	@$(BIN)/vfio-harness repro $(TARGET) $(BUG)

mutants: bug-deps
	@$(BIN)/vfio-harness mutants $(TARGET)

shell: deps
	@$(BIN)/vfio-harness shell $(ARGS)

bench: deps
	@$(BIN)/vfio-harness bench $(ARGS)

doctor: deps
	@$(BIN)/vfio-harness doctor $(ARGS)

lint: deps
	@$(BIN)/ruff check harness tests
	@$(BIN)/ruff format --check harness tests
	@$(BIN)/mypy

unit: deps
	@$(BIN)/pytest -q tests/unit

test: test-deps lint unit
	@$(BIN)/pytest -q tests/report
	@$(BIN)/vfio-harness run $(ARGS)
	@$(BIN)/pytest -q tests/robustness

clean:
	rm -rf $(VENV) results

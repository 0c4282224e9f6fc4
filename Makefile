# SPDX-License-Identifier: GPL-2.0-only
#
#   make vm-test        run the cases against a kernel, e.g. make vm-test KERNEL=~/linux K=doorbell
#   make vm-test-all    the same on each machine of vm-configs/, or on MACHINES="a b"; fails if one fails
#   make repro BUG=id   show a reported bug, and a control without it; `vfio-harness bugs list` lists them
#   make audit          list the known fixes that the kernel of KERNEL= has, by its behaviour
#   make mutants        put every reported bug back, and check that the suite catches it
#   make reach          check on which machines bugs survive, as their entries say; two minutes for each machine
#   make review         say which lines of SERIES= (or of KERNEL=tree since SINCE=ref) the cases reach, and what they notice
#   make review-test    review a series of ten edits, five of them where no case comes: each must be named; minutes
#   make nightly        run every cell of vm-configs/nightly.yaml, or of PLAN=file: many kernels on many machines
#   make kernel-coverage  check that each line of the kernel's export path has a case that reaches it, or a reason
#   make kvm-test       run cases under KVM, inside an emulated machine that has it (docs/kvm.md)
#   make test           everything: static checks, unit tests, robustness tests, the VM suite
#   make deps           only set up the virtual environment and the Debian packages
#   make shell          boot the machine and open a shell in the guest
#   make bench          measure where the time goes: a boot, a change until its verdict, the suite
#   make doctor         show every prerequisite, with the fix for the missing ones
#   make man            write the man page, vfio-harness.1
#
# `make help` also lists the variables, such as KERNEL= and K=: each is an option of `vfio-harness`.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# make exports the variables of its command line; --from-make has vfio-harness read those of its table of options.
RUN := $(BIN)/vfio-harness run --from-make

.PHONY: help deps test-deps bug-deps vm-test vm-test-all repro audit mutants reach review review-test nightly kernel-coverage kvm-test test unit lint shell bench doctor man clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))
	@test ! -x $(BIN)/vfio-harness || { echo; $(BIN)/vfio-harness make-variables; }
	@test -x $(BIN)/vfio-harness || echo "(run make deps first; make help then lists the variables, too)"

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
	@$(RUN)

# A machine that fails does not stop the others. Of the exit codes, 1 (the kernel is at fault) wins.
# A machine of another architecture needs its tools: it runs if it is named.
MACHINES ?= $(basename $(notdir $(shell grep -LE '^arch:' $$(grep -lE '^(machine|extends):' vm-configs/*.yaml))))
vm-test-all: deps
	@worst=0; summary=; for machine in $(MACHINES); do \
		echo "vm-test-all: $$machine"; \
		$(RUN) --machine $$machine --focus; code=$$?; \
		test $$code -eq 0 || test $$worst -eq 1 || worst=$$code; \
		summary="$$summary  $$machine: exit code $$code\n"; \
	done; printf "vm-test-all:\n$$summary"; exit $$worst

repro: bug-deps
	@test -n "$$BUG" || { echo 'make: name a bug: make repro BUG=id; `vfio-harness bugs list` lists them' >&2; exit 2; }
	@$(BIN)/vfio-harness repro --from-make "$$BUG"

audit: bug-deps
	@$(BIN)/vfio-harness audit --from-make

mutants: bug-deps
	@$(BIN)/vfio-harness mutants --from-make

review: deps
	@$(BIN)/vfio-harness review --from-make $(if $(SINCE),--since "$$SINCE") $(if $(SERIES),"$$SERIES")

nightly: deps
	@$(BIN)/vfio-harness nightly --from-make $(PLAN)

# Long: a kernel of its own, and cases on each machine. -s shows the progress of the runs.
kernel-coverage: bug-deps
	@$(BIN)/python -m pytest -s tests/coverage

kvm-test: deps
	@$(BIN)/vfio-harness kvm-test --from-make

shell: deps
	@$(BIN)/vfio-harness shell --from-make

bench: deps
	@$(BIN)/vfio-harness bench --from-make

doctor: deps
	@$(BIN)/vfio-harness doctor --from-make

man: deps
	@$(BIN)/vfio-harness man >vfio-harness.1

lint: deps
	@$(BIN)/ruff check harness tests
	@$(BIN)/ruff format --check harness tests
	@$(BIN)/mypy

unit: deps
	@$(BIN)/pytest -q tests/unit

# Of the cases it runs the whole default suite: no variable narrows it.
test: test-deps lint unit
	@$(BIN)/pytest -q tests/report
	@K= SUITE= SEED= PROGRAM= $(RUN)
	@$(BIN)/pytest -q tests/robustness --ignore tests/robustness/test_reach.py --ignore tests/robustness/test_review.py

reach: bug-deps
	@$(BIN)/pytest -v tests/robustness/test_reach.py

review-test: test-deps
	@$(BIN)/pytest -v tests/robustness/test_review.py

clean:
	rm -rf $(VENV) results vfio-harness.1

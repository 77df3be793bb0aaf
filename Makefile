# SPDX-License-Identifier: GPL-2.0-only
# What a person does with this tree; kmod/Kbuild says how the module is built.

O := $(abspath build)
KDIR ?= /lib/modules/$(shell uname -r)/build
VM := tests/vm
# As many jobs as there are processors, unless -j was given.
PARALLEL = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: all user guest-module demo check check-all bench fuzz kselftest lint modules modules_install install clean help

all: user guest-module	## libkos, tools, tests, and kosdma.ko for the guests' default kernel

user:	## libkos, tools and tests
	@$(MAKE) -s --no-print-directory -C libkos O=$(O) all
	@$(MAKE) -s --no-print-directory -C tools O=$(O) all
	@$(MAKE) -s --no-print-directory -C tests O=$(O) all

guest-module:
	@$(VM)/build-module 6.1 >/dev/null

demo:	## show a driver at work in a guest, with an IOMMU and without (as root on a new machine: it installs packages)
	@$(VM)/install-packages
	@$(MAKE) --no-print-directory $(PARALLEL) all
	@$(VM)/demo

check:	## build everything and run the core of the tests (as root on a new machine)
	@$(VM)/install-packages
	@$(MAKE) --no-print-directory $(PARALLEL) all
	@$(VM)/check

check-all:	## the same with every kernel and IOMMU
	@$(VM)/install-packages
	@$(MAKE) --no-print-directory $(PARALLEL) all
	@$(VM)/check -a

bench:	## measure kosdma beside VFIO and others in guests: tables, CSV and plots in build/bench
	@$(VM)/install-packages
	@$(VM)/install-packages bench
	@$(MAKE) --no-print-directory $(PARALLEL) all
	@$(VM)/bench

fuzz:	## fuzz the pure logic, three programs for FUZZ_SECONDS (300) each, and the module in a guest (3600)
	@$(VM)/install-packages
	@$(VM)/install-packages fuzz
	@tests/host/logic/fuzz
	@$(MAKE) --no-print-directory $(PARALLEL) user
	@tests/fuzz/run -t $${FUZZ_SECONDS:-3600} -s $$(date +%s)

kselftest: user	## run the tests on this machine, whose module is loaded
	@$(MAKE) --no-print-directory -C tests O=$(O) run_tests

lint:	## every static checker
	@$(VM)/install-packages
	@$(VM)/lint

modules:	## kosdma.ko for KDIR (default: the running kernel), in kmod/
	$(MAKE) -C $(KDIR) M=$(CURDIR)/kmod modules

modules_install: modules	## install that kosdma.ko
	$(MAKE) -C $(KDIR) M=$(CURDIR)/kmod modules_install

install: user	## install libkos, its headers and the tools (DESTDIR, PREFIX)
	@$(MAKE) -s --no-print-directory -C libkos O=$(O) install
	@$(MAKE) -s --no-print-directory -C tools O=$(O) install

clean:	## remove what was built (not the kernels in the cache)
	rm -rf build
	@rm -f kmod/*.o kmod/*.ko kmod/*.mod kmod/*.mod.c kmod/.*.cmd kmod/modules.order kmod/Module.symvers

help:	## this text
	@sed -nE 's/^([a-z_-]+):[^#]*## (.*)/\1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '%-16s %s\n' "$$target" "$$text"; done

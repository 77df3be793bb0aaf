# SPDX-License-Identifier: GPL-2.0-only
#
# The conventions of the kernel's tools/testing/selftests/lib.mk, as far as
# this tree needs them: TEST_GEN_PROGS is built from sources and run,
# TEST_GEN_PROGS_EXTENDED is only built, TEST_PROGS is run as it is, TEST_FILES
# goes along; targets all, run_tests, install and clean. $(O)/tests holds all
# that it takes to run them.

OUTPUT := $(O)/tests
GEN := $(addprefix $(OUTPUT)/,$(TEST_GEN_PROGS))
EXTENDED := $(addprefix $(OUTPUT)/,$(TEST_GEN_PROGS_EXTENDED))
RUN := $(addprefix $(OUTPUT)/,run_kselftest.sh $(TEST_PROGS) $(TEST_FILES))
LIB_OBJS := $(patsubst %.c,$(OUTPUT)/%.o,$(LIB_SRCS))

.PHONY: all run_tests install clean
.SECONDARY:
all: $(GEN) $(EXTENDED) $(RUN)

$(RUN): $(OUTPUT)/%: %
	@mkdir -p $(@D)
	cp $< $@

$(OUTPUT)/%.o: %.c $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<

$(OUTPUT)/%: $(OUTPUT)/%.o $(LIB_OBJS) $(wildcard $(O)/libkos/libkos.a)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB_OBJS) $(LDLIBS)

run_tests: all
	$(OUTPUT)/run_kselftest.sh $(GEN) $(addprefix $(OUTPUT)/,$(TEST_PROGS))

install: all
	@test -n "$(INSTALL_PATH)" || { echo "INSTALL_PATH is not set" >&2; exit 1; }
	install -d $(INSTALL_PATH)
	cp $(GEN) $(RUN) $(INSTALL_PATH)

clean:
	$(RM) -r $(OUTPUT)/lib $(OUTPUT)/bench $(GEN) $(RUN) $(addsuffix .o,$(GEN))

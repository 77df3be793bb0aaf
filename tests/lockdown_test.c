// SPDX-License-Identifier: GPL-2.0-only
/*
 * A kernel that is locked down: nothing that reaches memory behind its back is
 * left, and drivers whose devices an IOMMU confines work on.
 *
 * Nothing undoes a lockdown, so it has guests of its own: `tests/vm/check -l`.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "lib/buffer.h"
#include "lib/edu.h"
#include "lib/pci.h"
#include "lib/probe.h"

#define POISON_HANDLE ((Handle)0xcccc)
#define NONE INVALID_HANDLE

static const uint32_t all_flags[] = { 0, MMIO_K_SHARED, MMIO_U_SHARED,
				      MMIO_K_SHARED | MMIO_U_SHARED };

FIXTURE(lockdown)
{
	struct edu edu;
};

FIXTURE_SETUP(lockdown)
{
	FILE *f = fopen("/sys/kernel/security/lockdown", "re");
	char line[128] = "";

	probe_require_module();
	if (f && !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	if (!line[0] || strstr(line, "[none]"))
		SKIP("the kernel is not locked down");
	edu_require(&self->edu, 0);
}

FIXTURE_TEARDOWN(lockdown)
{
	uint64_t start, last;

	EXPECT_FALSE(probe_iomem_find("kosdma", 0, &start, &last));
}

static void expect_refused(uint64_t addr, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(all_flags); i++) {
		Handle out = POISON_HANDLE;

		EXPECT_RC(rcSecurityDisallow,
			  KnRegisterPhyMem(addr, size, all_flags[i], &out));
		EXPECT_EQ(NONE, out);
	}
}

TEST_F(lockdown, ranges_that_are_no_bar_are_rcSecurityDisallow)
{
	uint64_t page;

	if (!probe_free_range(PAGE, &page))
		SKIP("this machine has no free page in a window for PCI");
	expect_refused(page, PAGE);
	expect_refused(0, PAGE);
	expect_refused(0xfec00000, PAGE);
}

TEST_F(lockdown, registers_of_a_driver_are_not_shared_with_it)
{
	struct pci_bar bar;
	char driver[64];
	struct pci pci;
	int n;

	for (n = 0; pci_driven_bar(n, &pci, &bar, driver); n++) {
		test_context("%s", driver);
		expect_refused(bar.start, PAGE);
	}
	test_context("%s", "");
	if (!n)
		SKIP("no driver of the kernel's has claimed registers here");
}

TEST_F(lockdown, physical_addresses_of_buffers_are_rcSecurityDisallow)
{
	Handle buffer = buffer_create(0, PAGE, DMA_DIR_BIDIR);
	DmaInfo *info = (DmaInfo *)0xcc;

	EXPECT_RC(rcSecurityDisallow, KnIoDmaGetPhysInfo(buffer, &info));
	EXPECT_NULL(info);
	EXPECT_OK(KnHandleClose(buffer));
}

TEST_F(lockdown, device_behind_an_iommu_works)
{
	struct begun from, to;

	edu_require_translation(&self->edu);
	edu_open(&self->edu, 0);
	begun_open(&from, PAGE, NONE);
	begun_open(&to, PAGE, NONE);
	EXPECT_TRUE(probe_lands(&self->edu, &from, to.addr, to.mem));
	begun_close(&to);
	begun_close(&from);
	edu_unmap_registers(&self->edu);
	EXPECT_OK(KnIommuDetachDevice(self->edu.bdf));
}

TEST_F(lockdown, device_without_an_iommu_is_rcSecurityDisallow)
{
	if (edu_translated(&self->edu))
		SKIP("here an IOMMU confines the device");
	expect_refused(self->edu.bar, PAGE);
	expect_refused(self->edu.bar, EDU_BAR_SIZE);
	EXPECT_RC(rcSecurityDisallow, KnIommuAttachDevice(self->edu.bdf));
	EXPECT_FALSE(probe_bus_master(self->edu.path));
}

TEST_HARNESS_MAIN

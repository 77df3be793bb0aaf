// SPDX-License-Identifier: GPL-2.0-only
/*
 * Description: without /dev/kosdma every call answers its documented code and
 * sets its outputs, and bad pointers are refused before all else.
 */
#include <coresrv/handle/handle_api.h>
#include <coresrv/io/io_api.h>
#include <coresrv/iommu/iommu_api.h>
#include <kos/alloc.h>
#include <rtl/retcode_hr.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int failures;

static void expect(Retcode got, Retcode want, const char *call, int line)
{
	if (got == want)
		return;
	printf("# line %d: %s: " RETCODE_HR_FMT ", expected %s\n", line, call,
	       RETCODE_HR_PARAMS(got), KosRetcodeName(want));
	failures++;
}

static void check(int holds, const char *what, int line)
{
	if (holds)
		return;
	printf("# line %d: %s does not hold\n", line, what);
	failures++;
}

#define EXPECT(call, want) expect(call, want, #call, __LINE__)
#define CHECK(what) check(what, #what, __LINE__)

/* Outputs hold rubbish before each call. */
static Handle h;
static void *p;

static void soil(void)
{
	h = 12345;
	p = &h;
}

static void dma(void)
{
	DmaInfo *info = (DmaInfo *)&h;
	DmaAddr addr = 1;

	soil();
	EXPECT(KnIoDmaCreate(0, PAGE_SIZE, 0, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	soil();
	EXPECT(KnIoDmaCreateContinuous(PAGE_SIZE, 0, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	soil();
	EXPECT(KnIoDmaMap(1, 0, PAGE_SIZE, NULL, VMM_FLAG_READ, &p, &h),
	       rcNotConnected);
	CHECK(h == INVALID_HANDLE && !p);
	soil();
	EXPECT(KnIoDmaBegin(1, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	soil();
	EXPECT(KnIoDmaBeginEx(1, 1, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	soil();
	EXPECT(KnIoDmaBeginEx(1, INVALID_HANDLE, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	EXPECT(KnIoDmaGetInfo(1, &info), rcNotConnected);
	CHECK(!info);
	info = (DmaInfo *)&h;
	EXPECT(KnIoDmaGetPhysInfo(1, &info), rcNotConnected);
	CHECK(!info);
	EXPECT(KnIoDmaContinuousGetDmaAddr(1, &addr), rcNotConnected);
	CHECK(!addr);
	EXPECT(KnIoDmaModify(1, DMA_ATTR_WRITE_BACK), rcNotConnected);

	EXPECT(KnIoDmaCreate(0, PAGE_SIZE, 0, NULL), rcInvalidArgument);
	EXPECT(KnIoDmaCreateContinuous(PAGE_SIZE, 0, NULL), rcInvalidArgument);
	soil();
	EXPECT(KnIoDmaMap(1, 0, PAGE_SIZE, NULL, VMM_FLAG_READ, NULL, &h),
	       rcInvalidArgument);
	CHECK(h == INVALID_HANDLE);
	soil();
	EXPECT(KnIoDmaMap(1, 0, PAGE_SIZE, NULL, VMM_FLAG_READ, &p, NULL),
	       rcInvalidArgument);
	CHECK(!p);
	EXPECT(KnIoDmaBegin(1, NULL), rcInvalidArgument);
	EXPECT(KnIoDmaBeginEx(1, 1, NULL), rcInvalidArgument);
	EXPECT(KnIoDmaGetInfo(1, NULL), rcInvalidArgument);
	EXPECT(KnIoDmaGetPhysInfo(1, NULL), rcInvalidArgument);
	EXPECT(KnIoDmaContinuousGetDmaAddr(1, NULL), rcInvalidArgument);
	KosMemFree(NULL);
}

static void mmio(void)
{
	IoMemHandles handles = { 1, 2 };

	soil();
	EXPECT(KnRegisterPhyMem(0, PAGE_SIZE, 0, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	soil();
	EXPECT(KnIoMapMem(1, VMM_FLAG_READ, 0, &p, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE && !p);
	EXPECT(KnRegisterPhyMem(0, PAGE_SIZE, 0, NULL), rcInvalidArgument);
	soil();
	EXPECT(KnIoMapMem(1, VMM_FLAG_READ, 0, NULL, &h), rcInvalidArgument);
	CHECK(h == INVALID_HANDLE);
	soil();
	EXPECT(KnIoMapMem(1, VMM_FLAG_READ, 0, &p, NULL), rcInvalidArgument);
	CHECK(!p);
	soil();
	EXPECT(KnIoMapMem(1, VMM_FLAG_READ, VMM_FLAG_READ, &p, &h),
	       rcInvalidArgument);
	CHECK(h == INVALID_HANDLE && !p);

	KnIoMemHandlesClear(NULL);
	EXPECT(KnIoMemHandlesClose(NULL), rcInvalidArgument);
	EXPECT(KnIoMemHandlesClose(&handles), rcNotConnected);
	CHECK(handles.region == INVALID_HANDLE);
	CHECK(handles.mapping == INVALID_HANDLE);
	EXPECT(KnIoMemHandlesClose(&handles), rcOk);
	handles.region = handles.mapping = 3;
	KnIoMemHandlesClear(&handles);
	CHECK(handles.region == INVALID_HANDLE);
	CHECK(handles.mapping == INVALID_HANDLE);
}

static void iommu(void)
{
	EXPECT(KnIommuAttachDevice(0x20), rcNotConnected);
	EXPECT(KnIommuDetachDevice(0x20), rcNotConnected);
	soil();
	EXPECT(KnIommuCreateDomain(&h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	EXPECT(KnIommuCreateDomain(NULL), rcInvalidArgument);
	EXPECT(KnIommuAttachDeviceToDomain(0x20, 1), rcNotConnected);
	EXPECT(KnIommuDetachDeviceFromDomain(0x20, 1), rcNotConnected);
	EXPECT(KosIommuSetDmaMask(0x20, 0xffffffff), rcNotConnected);
	EXPECT(KosIommuAttachDeviceEx(0x10020), rcNotConnected);
	EXPECT(KosIommuDetachDeviceEx(0x10020), rcNotConnected);
	EXPECT(KosIommuAttachDeviceToDomainEx(0x10020, 1), rcNotConnected);
	EXPECT(KosIommuDetachDeviceFromDomainEx(0x10020, 1), rcNotConnected);
	EXPECT(KosIommuSetDmaMaskEx(0x10020, 0xffffffff), rcNotConnected);
}

static void handle(void)
{
	rtl_uint32_t sid = 1;
	int pair[2];
	char byte;

	EXPECT(KnHandleClose(1), rcNotConnected);
	EXPECT(KnHandleClose(INVALID_HANDLE), rcNotConnected);
	EXPECT(KnIoClose(1), rcNotConnected);
	EXPECT(KnHandleRevoke(1), rcNotConnected);
	EXPECT(KnHandleRevokeEx(1, rtl_false), rcNotConnected);
	EXPECT(KnHandleRevokeSubtree(1, 1), rcNotConnected);
	EXPECT(KnHandleRevokeSubtree(1, INVALID_HANDLE), rcInvalidArgument);
	soil();
	EXPECT(KnHandleCopy(1, 0, INVALID_HANDLE, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	EXPECT(KnHandleCopy(1, 0, INVALID_HANDLE, NULL), rcInvalidArgument);
	EXPECT(KnHandleGetSidByHandle(1, &sid), rcNotConnected);
	CHECK(!sid);
	EXPECT(KnHandleGetSidByHandle(1, NULL), rcInvalidArgument);
	soil();
	EXPECT(KnHandleCreateBadge(INVALID_HANDLE, 0, NULL, &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	soil();
	EXPECT(KnHandleCreateBadge(1, 0, NULL, &h), rcUnimplemented);
	CHECK(h == INVALID_HANDLE);
	EXPECT(KnHandleCreateBadge(INVALID_HANDLE, 0, NULL, NULL),
	       rcInvalidArgument);

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	EXPECT(KosHandleSend(pair[0], 1, 0), rcNotConnected);
	CHECK(recv(pair[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	soil();
	EXPECT(KosHandleReceive(pair[1], &h), rcNotConnected);
	CHECK(h == INVALID_HANDLE);
	EXPECT(KosHandleReceive(pair[1], NULL), rcInvalidArgument);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	if (!access("/dev/kosdma", F_OK)) {
		puts("# /dev/kosdma exists here");
		return 77;
	}
	dma();
	mmio();
	iommu();
	handle();
	return failures != 0;
}

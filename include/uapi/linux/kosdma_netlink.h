/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/kosdma.yaml */
/* YNL-GEN uapi header */
/* To regenerate run: tools/net/ynl/ynl-regen.sh */

#ifndef _UAPI_LINUX_KOSDMA_NETLINK_H
#define _UAPI_LINUX_KOSDMA_NETLINK_H

#define KOSDMA_FAMILY_NAME	"kosdma"
#define KOSDMA_FAMILY_VERSION	1

/**
 * enum kosdma_nl_device_state - What is known of a PCI function.
 * @KOSDMA_NL_DEVICE_BOUND: The kosdma driver has it.
 * @KOSDMA_NL_DEVICE_HELD: A process holds its IOMMU group.
 * @KOSDMA_NL_DEVICE_ATTACHED: It is attached to a domain of that process.
 * @KOSDMA_NL_DEVICE_TRANSLATED: It is behind an IOMMU that translates.
 * @KOSDMA_NL_DEVICE_GRANTED: A grant names the reader.
 */
enum kosdma_nl_device_state {
	KOSDMA_NL_DEVICE_BOUND = 1,
	KOSDMA_NL_DEVICE_HELD = 2,
	KOSDMA_NL_DEVICE_ATTACHED = 4,
	KOSDMA_NL_DEVICE_TRANSLATED = 8,
	KOSDMA_NL_DEVICE_GRANTED = 16,
};

enum {
	KOSDMA_A_DEVICE_ADDRESS = 1,
	KOSDMA_A_DEVICE_STATE,
	KOSDMA_A_DEVICE_DRIVER,
	KOSDMA_A_DEVICE_IOMMU_GROUP,
	KOSDMA_A_DEVICE_OWNER_PID,
	KOSDMA_A_DEVICE_OWNER_UID,

	__KOSDMA_A_DEVICE_MAX,
	KOSDMA_A_DEVICE_MAX = (__KOSDMA_A_DEVICE_MAX - 1)
};

enum {
	KOSDMA_A_GRANT_ADDRESS = 1,
	KOSDMA_A_GRANT_UID,
	KOSDMA_A_GRANT_GID,

	__KOSDMA_A_GRANT_MAX,
	KOSDMA_A_GRANT_MAX = (__KOSDMA_A_GRANT_MAX - 1)
};

enum kosdma_cmd {
	KOSDMA_CMD_DEVICE_GET = 1,
	KOSDMA_CMD_GRANT_ADD,
	KOSDMA_CMD_GRANT_DEL,
	KOSDMA_CMD_GRANT_GET,

	__KOSDMA_CMD_MAX,
	KOSDMA_CMD_MAX = (__KOSDMA_CMD_MAX - 1)
};

#endif /* _UAPI_LINUX_KOSDMA_NETLINK_H */

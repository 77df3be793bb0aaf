// SPDX-License-Identifier: GPL-2.0-only
/*
 * Quarantine: pages of accesses that have ended, and that a device without an
 * IOMMU may still write. They stay until the device is quiet, or an
 * administrator says that it is.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

#include <linux/kosdma_netlink.h>

#include "kosdma.h"
#include "trace.h"

static DEFINE_MUTEX(kosdma_quarantine_lock);	/* leaf: guards what follows */
static LIST_HEAD(kosdma_quarantine);		/* by kosdma_access::domain_node */
static LIST_HEAD(kosdma_suspects);		/* by kosdma_device::suspect_node */
static unsigned long kosdma_quarantined;	/* pages */

/**
 * kosdma_quarantine_suspect() - a device may still write where it could
 * @dev: is in no domain that would cut it off
 */
void kosdma_quarantine_suspect(struct kosdma_device *dev)
{
	mutex_lock(&kosdma_quarantine_lock);
	if (!dev->suspect) {
		dev->suspect = true;
		kref_get(&dev->ref);
		list_add_tail(&dev->suspect_node, &kosdma_suspects);
	}
	mutex_unlock(&kosdma_quarantine_lock);
}

/* May a device (NULL: any) still write where it could? */
static bool kosdma_suspect_locked(const struct kosdma_device *dev)
{
	lockdep_assert_held(&kosdma_quarantine_lock);
	return dev ? dev->suspect : !list_empty(&kosdma_suspects);
}

/* Is a device suspect (NULL: is any)? */
bool kosdma_quarantine_is_suspect(struct kosdma_device *dev)
{
	bool suspect;

	mutex_lock(&kosdma_quarantine_lock);
	suspect = kosdma_suspect_locked(dev);
	mutex_unlock(&kosdma_quarantine_lock);
	return suspect;
}

/**
 * kosdma_quarantine_add() - keep the pages of an access that has ended
 * @access: on a list by its domain_node, and kept
 * @suspect: a device that may still write them
 * @more: others may as well: they are given back when nobody is suspect any more
 *
 * Return: false if they have proven quiet meanwhile; then nothing has changed.
 * Otherwise the access is the quarantine's.
 */
bool kosdma_quarantine_add(struct kosdma_access *access, struct kosdma_device *suspect, bool more)
{
	unsigned long pages = access->buffer->npages;

	mutex_lock(&kosdma_quarantine_lock);
	if (!kosdma_suspect_locked(more ? NULL : suspect)) {
		mutex_unlock(&kosdma_quarantine_lock);
		return false;
	}
	if (!more) {
		kref_get(&suspect->ref);
		access->suspect = suspect;
	}
	__module_get(THIS_MODULE);
	list_move_tail(&access->domain_node, &kosdma_quarantine);
	access->quarantined = true;
	WRITE_ONCE(kosdma_quarantined, kosdma_quarantined + pages);
	trace_quarantine_add(access);
	kosdma_event_pages(KOSDMA_NL_EVENT_QUARANTINE, more ? KOSDMA_NO_ADDRESS : suspect->address,
			   pages);
	pci_warn(suspect->pdev, "may still write: %lu pages quarantined\n", pages);
	/* From here on it can be released, and freed. */
	mutex_unlock(&kosdma_quarantine_lock);
	return true;
}

/* Whose pages are released: a function, by whatever was bound to it, or an address, or all. */
struct kosdma_release {
	struct pci_dev *pdev;
	u32 address;
};

static bool kosdma_release_matches(const struct kosdma_release *release,
				   const struct kosdma_device *dev)
{
	if (release->pdev)
		return dev->pdev == release->pdev;
	return release->address == KOSDMA_NO_ADDRESS || dev->address == release->address;
}

/* A suspect that is one no longer, with the list's reference, or NULL. */
static struct kosdma_device *kosdma_quarantine_clear(const struct kosdma_release *release)
{
	struct kosdma_device *dev, *found = NULL;

	mutex_lock(&kosdma_quarantine_lock);
	list_for_each_entry(dev, &kosdma_suspects, suspect_node) {
		if (kosdma_release_matches(release, dev)) {
			dev->suspect = false;
			list_del_init(&dev->suspect_node);
			found = dev;
			break;
		}
	}
	mutex_unlock(&kosdma_quarantine_lock);
	return found;
}

/* Returns how many devices were suspect; @pages gets what was freed. */
static unsigned int kosdma_quarantine_free(const struct kosdma_release *release, u64 *pages)
{
	struct kosdma_access *access, *next;
	struct kosdma_device *dev;
	unsigned int cleared = 0, released = 0;
	u32 address = release->address;
	LIST_HEAD(done);

	*pages = 0;
	while ((dev = kosdma_quarantine_clear(release))) {
		if (release->pdev)
			address = dev->address;
		cleared++;
		kosdma_device_put(dev);
	}
	if (!cleared && !READ_ONCE(kosdma_quarantined))
		return 0;

	mutex_lock(&kosdma_quarantine_lock);
	list_for_each_entry_safe(access, next, &kosdma_quarantine, domain_node) {
		const struct kosdma_device *suspect = access->suspect;

		if (!kosdma_suspect_locked(suspect) &&
		    (!suspect || kosdma_release_matches(release, suspect))) {
			list_move_tail(&access->domain_node, &done);
			access->quarantined = false;
			WRITE_ONCE(kosdma_quarantined,
				   kosdma_quarantined - access->buffer->npages);
			*pages += access->buffer->npages;
		}
	}
	mutex_unlock(&kosdma_quarantine_lock);

	list_for_each_entry(access, &done, domain_node) {
		trace_quarantine_release(access);
		if (access->suspect)
			kosdma_device_put(access->suspect);
		access->suspect = NULL;
		released++;
	}
	kosdma_access_release(&done);
	if (*pages)
		kosdma_event_pages(KOSDMA_NL_EVENT_RELEASE, address, *pages);
	/* Last: what ends with them may need the module again. */
	while (released--)
		module_put(THIS_MODULE);
	return cleared;
}

/**
 * kosdma_quarantine_release() - a device is quiet, or gone: free what it kept
 * @pdev: the function; also by what was bound to it earlier
 */
void kosdma_quarantine_release(struct pci_dev *pdev)
{
	struct kosdma_release release = { .pdev = pdev, .address = KOSDMA_NO_ADDRESS };
	u64 pages;

	kosdma_quarantine_free(&release, &pages);
}

/**
 * kosdma_quarantine_release_address() - the administrator says that a device is quiet
 * @address: of the function, which may be gone; KOSDMA_NO_ADDRESS: all are
 * @pages: gets how many were freed; those that another one may write stay
 *
 * Return: 0, or -ENOENT if it is not suspect and has kept nothing.
 */
int kosdma_quarantine_release_address(u32 address, u64 *pages)
{
	struct kosdma_release release = { .address = address };

	return kosdma_quarantine_free(&release, pages) || *pages ? 0 : -ENOENT;
}

/* No page is left; devices may be that were not proven quiet. */
void kosdma_quarantine_exit(void)
{
	u64 pages;

	kosdma_quarantine_release_address(KOSDMA_NO_ADDRESS, &pages);
}

/**
 * kosdma_quarantine_look() - is an access in quarantine?
 * @access: with a reference of the caller's
 * @suspect: gets the address of the device that may still write, or
 *	KOSDMA_NO_ADDRESS if there are several
 */
bool kosdma_quarantine_look(struct kosdma_access *access, u32 *suspect)
{
	bool quarantined;

	mutex_lock(&kosdma_quarantine_lock);
	quarantined = access->quarantined;
	if (quarantined)
		*suspect = access->suspect ? access->suspect->address : KOSDMA_NO_ADDRESS;
	mutex_unlock(&kosdma_quarantine_lock);
	return quarantined;
}

/* Pages that are in quarantine now. */
unsigned long kosdma_quarantine_pages(void)
{
	return READ_ONCE(kosdma_quarantined);
}

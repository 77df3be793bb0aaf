// SPDX-License-Identifier: GPL-2.0-only
/*
 * Grants: which users may have which devices
 *
 * A grant names a PCI function by its address and a user or a group by its
 * kernel id. It outlives the binding of a driver, and ends with the function:
 * what is plugged in at that address next is another device.
 *
 * The identity that counts is the effective one, user and groups, as for any
 * other privileged act; the file system's own ids are for the file system.
 */
#include <linux/cred.h>
#include <linux/notifier.h>
#include <linux/rbtree.h>
#include <linux/slab.h>

#include "kosdma.h"

struct kosdma_grant {
	struct rb_node node;
	struct kosdma_grant_key key;
};

static DEFINE_MUTEX(kosdma_grants_lock);	/* leaf: guards what follows */
static struct rb_root kosdma_grants = RB_ROOT;	/* in order of kosdma_grant_cmp() */
static unsigned int kosdma_grants_changes = 1;

static int kosdma_grant_cmp(const struct kosdma_grant_key *a, const struct kosdma_grant_key *b)
{
	if (a->address != b->address)
		return a->address < b->address ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return 0;
}

static int kosdma_grant_cmp_node(struct rb_node *node, const struct rb_node *parent)
{
	return kosdma_grant_cmp(&rb_entry(node, struct kosdma_grant, node)->key,
				&rb_entry(parent, struct kosdma_grant, node)->key);
}

/* The first grant that is not before @key, or NULL. */
static struct kosdma_grant *kosdma_grant_from(const struct kosdma_grant_key *key)
{
	struct rb_node *node = kosdma_grants.rb_node;
	struct kosdma_grant *found = NULL;

	lockdep_assert_held(&kosdma_grants_lock);
	while (node) {
		struct kosdma_grant *grant = rb_entry(node, struct kosdma_grant, node);

		if (kosdma_grant_cmp(&grant->key, key) < 0) {
			node = node->rb_right;
		} else {
			found = grant;
			node = node->rb_left;
		}
	}
	return found;
}

static void kosdma_grant_erase(struct kosdma_grant *grant)
{
	lockdep_assert_held(&kosdma_grants_lock);
	rb_erase(&grant->node, &kosdma_grants);
	kfree(grant);
	kosdma_grants_changes++;
}

/* Not in_egroup_p(): the credentials may be those of somebody who asked before. */
static bool kosdma_cred_in_group(const struct cred *cred, kgid_t gid)
{
	const struct group_info *groups = cred->group_info;
	int i;

	if (gid_eq(cred->egid, gid))
		return true;
	for (i = 0; i < groups->ngroups; i++) {
		if (gid_eq(groups->gid[i], gid))
			return true;
	}
	return false;
}

/* Does the grant name whoever has these credentials? */
bool kosdma_grant_names(const struct kosdma_grant_key *key, const struct cred *cred)
{
	if (key->kind == KOSDMA_GRANT_USER)
		return uid_eq(cred->euid, KUIDT_INIT(key->id));
	return kosdma_cred_in_group(cred, KGIDT_INIT(key->id));
}

/**
 * kosdma_grant_allows() - does any grant let somebody have a device?
 * @cred: credentials of whoever wants it
 * @address: the PCI function
 *
 * Return: whether one does. A group of functions needs one for each of them.
 */
bool kosdma_grant_allows(const struct cred *cred, u32 address)
{
	struct kosdma_grant_key first = { .address = address };
	struct kosdma_grant *grant;
	struct rb_node *node;
	bool allows = false;

	mutex_lock(&kosdma_grants_lock);
	grant = kosdma_grant_from(&first);
	for (node = grant ? &grant->node : NULL; node && !allows; node = rb_next(node)) {
		grant = rb_entry(node, struct kosdma_grant, node);
		if (grant->key.address != address)
			break;
		allows = kosdma_grant_names(&grant->key, cred);
	}
	mutex_unlock(&kosdma_grants_lock);
	return allows;
}

/**
 * kosdma_grant_add() - let a user or a group have a device
 * @key: the device and who
 *
 * Return: 0, -ENODEV (there is no such function), -EEXIST, -ENOMEM.
 */
int kosdma_grant_add(const struct kosdma_grant_key *key)
{
	struct kosdma_grant *grant;
	struct pci_dev *pdev;
	int ret = -ENODEV;

	grant = kzalloc(sizeof(*grant), GFP_KERNEL_ACCOUNT);
	if (!grant)
		return -ENOMEM;
	grant->key = *key;

	/*
	 * Looked up under the lock that its removal takes when the function can
	 * no longer be found: no grant outlives it.
	 */
	mutex_lock(&kosdma_grants_lock);
	pdev = kosdma_pci_dev_get(key->address);
	if (pdev) {
		ret = rb_find_add(&grant->node, &kosdma_grants, kosdma_grant_cmp_node) ?
			      -EEXIST : 0;
		if (!ret)
			kosdma_grants_changes++;
	}
	mutex_unlock(&kosdma_grants_lock);
	pci_dev_put(pdev);
	if (ret)
		kfree(grant);
	return ret;
}

/**
 * kosdma_grant_del() - take a grant back
 * @key: the grant; all of the address if its kind is KOSDMA_GRANT_ANY
 *
 * Whoever holds the device keeps it.
 *
 * Return: 0, or -ENOENT if there is none.
 */
int kosdma_grant_del(const struct kosdma_grant_key *key)
{
	struct kosdma_grant *grant;
	int ret = -ENOENT;

	mutex_lock(&kosdma_grants_lock);
	for (;;) {
		grant = kosdma_grant_from(key);
		if (!grant || grant->key.address != key->address ||
		    (key->kind != KOSDMA_GRANT_ANY && kosdma_grant_cmp(&grant->key, key)))
			break;
		kosdma_grant_erase(grant);
		ret = 0;
	}
	mutex_unlock(&kosdma_grants_lock);
	return ret;
}

/**
 * kosdma_grant_next() - walk all grants
 * @key: where the walk is: at first all zero, which is before any grant; then
 *	what the last call left there. Changed to the next grant.
 * @changes: set to a number, not 0, that is another one after each change
 *
 * Return: whether there is a next one.
 */
bool kosdma_grant_next(struct kosdma_grant_key *key, unsigned int *changes)
{
	struct kosdma_grant *grant;
	struct rb_node *node;

	mutex_lock(&kosdma_grants_lock);
	*changes = kosdma_grants_changes ?: 1;
	grant = kosdma_grant_from(key);
	if (grant && !kosdma_grant_cmp(&grant->key, key)) {
		node = rb_next(&grant->node);
		grant = node ? rb_entry(node, struct kosdma_grant, node) : NULL;
	}
	if (grant)
		*key = grant->key;
	mutex_unlock(&kosdma_grants_lock);
	return grant;
}

/*
 * REMOVED, not DEL: at DEL the function can still be found, and be granted. Now
 * it cannot, and nothing else can be at its address before this returns.
 */
static int kosdma_grant_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);
	struct kosdma_grant_key all = { .kind = KOSDMA_GRANT_ANY };

	if (action == BUS_NOTIFY_REMOVED_DEVICE && kosdma_pci_address(pdev, &all.address))
		kosdma_grant_del(&all);
	return NOTIFY_DONE;
}

static struct notifier_block kosdma_grant_notifier = {
	.notifier_call = kosdma_grant_notify,
};

int kosdma_grant_init(void)
{
	return bus_register_notifier(&pci_bus_type, &kosdma_grant_notifier);
}

void kosdma_grant_exit(void)
{
	struct kosdma_grant *grant, *next;

	bus_unregister_notifier(&pci_bus_type, &kosdma_grant_notifier);
	rbtree_postorder_for_each_entry_safe(grant, next, &kosdma_grants, node)
		kfree(grant);
}

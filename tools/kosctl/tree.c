// SPDX-License-Identifier: MIT
/* Objects as they hang together: a tree of them, and who can reach one. */
#define _GNU_SOURCE
#include "kosctl.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/kosdma.h>

static struct objects all[NR_NOUNS];

static void load_all(void)
{
	int noun;

	for (noun = 0; noun < NR_NOUNS; noun++)
		all[noun] = objects_load((enum noun)noun);
}

#define for_each_object(pos, noun)                                                                 \
	for ((pos) = all[noun].object; (pos) < all[noun].object + all[noun].nr; (pos)++)

/* They come in order of sid. */
static struct object *find_object(enum noun noun, uint32_t sid)
{
	size_t low = 0, high = all[noun].nr;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (all[noun].object[middle].sid < sid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < all[noun].nr && all[noun].object[low].sid == sid ? &all[noun].object[low] :
									NULL;
}

/* "name[pid]"; the name is what /proc says now. */
static const char *process_name(const struct object *object)
{
	static char text[64];
	char path[32], name[32] = "";
	FILE *f;

	if (!object->has_pid)
		return "a process";
	snprintf(path, sizeof(path), "/proc/%u/comm", object->pid);
	f = fopen(path, "re");
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = '\0';
	if (f)
		fclose(f);
	snprintf(text, sizeof(text), "%s[%u]", name[0] ? name : "?", object->pid);
	return text;
}

static bool same_process(const struct object *a, const struct object *b)
{
	return a->pid == b->pid && a->uid == b->uid;
}

/* ---- tree ---- */

/* Has the buffer been shown in full? */
static unsigned char *shown;

static void print_buffer(uint32_t sid)
{
	const struct object *buffer = find_object(NOUN_BUFFERS, sid);
	size_t index;

	if (!buffer) {
		/* Of another user, or made meanwhile. */
		printf("buffer %u\n", sid);
		return;
	}
	index = (size_t)(buffer - all[NOUN_BUFFERS].object);
	if (shown[index]) {
		printf("buffer %u (above)\n", sid);
		return;
	}
	shown[index] = 1;
	printf("buffer %u: %" PRIu64 " bytes in %u blocks, %s%s%s\n", sid, buffer->length,
	       buffer->blocks, attr_words(buffer->flags), buffer->state ? ", " : "",
	       buffer->state ? state_word(buffer->state) : "");
}

static void print_state(const struct object *object)
{
	if (object->state)
		printf(" (%s)", state_word(object->state));
}

static void print_domain(const struct object *domain)
{
	const struct object *access;
	size_t i;

	printf("  domain %u", domain->sid);
	print_state(domain);
	printf("%s, %s\n", domain->automatic ? " (automatic)" : "", mode_word(domain->mode));
	for (i = 0; i < domain->nr_members; i++)
		printf("    device %s\n", bdf_name(domain->members[i]).text);
	for_each_object(access, NOUN_ACCESSES) {
		if (access->domain != domain->sid)
			continue;
		printf("    access %u", access->sid);
		print_state(access);
		if (access->has_start)
			printf(" at %#" PRIx64, access->start);
		printf(", %s: ", attr_words(access->flags));
		print_buffer(access->buffer);
	}
}

static void print_process(const struct object *process)
{
	const struct object *object;

	printf("%s, user %u\n", process_name(process), process->uid);
	for_each_object(object, NOUN_DOMAINS)
		if (same_process(object, process))
			print_domain(object);
	for_each_object(object, NOUN_REGIONS) {
		if (!same_process(object, process))
			continue;
		printf("  region %u", object->sid);
		print_state(object);
		if (object->has_device)
			printf(" of %s", bdf_name(object->device).text);
		printf(", %" PRIu64 " bytes\n", object->length);
	}
	for_each_object(object, NOUN_MAPPINGS) {
		if (!same_process(object, process))
			continue;
		printf("  mapping %u", object->sid);
		print_state(object);
		printf(" at %#" PRIx64 ", %s: ", object->start, map_words(object->flags));
		if (object->type == KOSDMA_HANDLE_BUFFER)
			print_buffer(object->buffer);
		else
			printf("%s %u\n", type_word(object->type), object->buffer);
	}
	for_each_object(object, NOUN_BUFFERS) {
		if (same_process(object, process) &&
		    !shown[object - all[NOUN_BUFFERS].object]) {
			printf("  ");
			print_buffer(object->sid);
		}
	}
}

static int compare_processes(const void *a, const void *b)
{
	const struct object *x = a, *y = b;

	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return x->uid < y->uid ? -1 : x->uid > y->uid;
}

int tree(const struct options *options)
{
	static const enum noun owners[] = { NOUN_DOMAINS, NOUN_REGIONS, NOUN_MAPPINGS,
					    NOUN_BUFFERS };
	struct object *processes;
	size_t nr = 0, room = 1, i;

	(void)options;
	load_all();
	for (i = 0; i < sizeof(owners) / sizeof(owners[0]); i++)
		room += all[owners[i]].nr;
	processes = calloc(room, sizeof(*processes));
	shown = calloc(all[NOUN_BUFFERS].nr + 1, 1);
	if (!processes || !shown) {
		complain("out of memory");
		return EXIT_REFUSED;
	}
	for (i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
		const struct object *object;

		for_each_object(object, owners[i])
			processes[nr++] = *object;
	}
	qsort(processes, nr, sizeof(*processes), compare_processes);
	for (i = 0; i < nr; i++)
		if (!i || !same_process(&processes[i], &processes[i - 1]))
			print_process(&processes[i]);
	free(processes);
	free(shown);
	return 0;
}

/* ---- who ---- */

static const struct column who_columns[] = {
	{ "OBJECT", "object", COLUMN_STRING },
	{ "WHO", "who", COLUMN_STRING },
	{ "MAY", "may", COLUMN_WORDS },
	{ "THROUGH", "through", COLUMN_STRING },
};

struct question {
	bool is_bdf, is_buffer; /* else an address */
	uint32_t bdf, buffer;
	uint64_t address;
};

static const char *may(bool read, bool write)
{
	return read && write ? "read,write" : read ? "read" : write ? "write" : "";
}

static bool contains(const struct object *object, uint64_t address)
{
	return object->has_start && address - object->start < object->length;
}

static void add_row(struct table *table, const char *kind, uint32_t sid, const char *who,
		    const char *words, const char *through, uint32_t number)
{
	table_cell(table, "%s %u", kind, sid);
	table_cell(table, "%s", who);
	table_cell(table, "%s", words);
	table_cell(table, "%s %u", through, number);
}

static bool has_member(const struct object *domain, uint32_t bdf)
{
	size_t i;

	for (i = 0; domain && i < domain->nr_members; i++)
		if (domain->members[i] == bdf)
			return true;
	return false;
}

/* Buffers that answer the question; all others do not matter. */
static bool wants_buffer(const struct question *question, uint32_t sid)
{
	const struct object *object;

	if (question->is_buffer)
		return sid == question->buffer;
	for_each_object(object, NOUN_ACCESSES) {
		if (object->buffer != sid || object->state)
			continue;
		if (question->is_bdf ?
			    has_member(find_object(NOUN_DOMAINS, object->domain), question->bdf) :
			    contains(object, question->address))
			return true;
	}
	for_each_object(object, NOUN_MAPPINGS)
		if (!question->is_bdf && object->type == KOSDMA_HANDLE_BUFFER &&
		    object->buffer == sid && contains(object, question->address))
			return true;
	for_each_object(object, NOUN_QUARANTINE)
		if (question->is_bdf && object->buffer == sid && object->has_device &&
		    object->device == question->bdf)
			return true;
	return false;
}

static void add_access(struct table *table, const struct object *access)
{
	const struct object *domain = find_object(NOUN_DOMAINS, access->domain);
	char who[32];
	size_t i;

	for (i = 0; domain && i < domain->nr_members; i++) {
		snprintf(who, sizeof(who), "device %s", bdf_name(domain->members[i]).text);
		add_row(table, "buffer", access->buffer, who,
			may(access->flags & KOSDMA_ATTR_TO_DEVICE,
			    access->flags & KOSDMA_ATTR_FROM_DEVICE),
			state_word(access->state)[0] == 'l' && access->state ? "lingering access" :
									       "access",
			access->sid);
	}
}

static void add_buffer(struct table *table, uint32_t sid)
{
	const struct object *object;
	char who[32];

	for_each_object(object, NOUN_MAPPINGS)
		if (object->type == KOSDMA_HANDLE_BUFFER && object->buffer == sid &&
		    !object->state)
			add_row(table, "buffer", sid, process_name(object),
				may(object->flags & KOSDMA_MAP_READ,
				    object->flags & KOSDMA_MAP_WRITE),
				"mapping", object->sid);
	for_each_object(object, NOUN_ACCESSES)
		if (object->buffer == sid && (!object->state ||
					      object->state == KOSDMA_NL_OBJECT_LINGERING))
			add_access(table, object);
	for_each_object(object, NOUN_QUARANTINE) {
		if (object->buffer != sid)
			continue;
		snprintf(who, sizeof(who), "device %s",
			 object->has_device ? bdf_name(object->device).text : "several");
		add_row(table, "buffer", sid, who, "read,write", "quarantined access",
			object->sid);
	}
	for_each_object(object, NOUN_HANDLES)
		if (object->sid == sid && !object->state &&
		    object->flags & (KOSDMA_RIGHT_DMA_READ | KOSDMA_RIGHT_DMA_WRITE))
			add_row(table, "buffer", sid,
				"whoever has it",
				may(object->flags & KOSDMA_RIGHT_DMA_READ,
				    object->flags & KOSDMA_RIGHT_DMA_WRITE),
				"handle", object->number);
}

static void add_region(struct table *table, const struct object *region)
{
	const struct object *object;

	for_each_object(object, NOUN_MAPPINGS)
		if (object->type == KOSDMA_HANDLE_REGION && object->buffer == region->sid &&
		    !object->state)
			add_row(table, "region", region->sid, process_name(object),
				may(object->flags & KOSDMA_MAP_READ,
				    object->flags & KOSDMA_MAP_WRITE),
				"mapping", object->sid);
}

static bool parse_question(const char *word, struct question *question)
{
	char *end;

	*question = (struct question){ 0 };
	question->is_bdf = parse_bdf(word, &question->bdf);
	if (question->is_bdf)
		return true;
	if (!isdigit((unsigned char)*word))
		return false;
	errno = 0;
	question->address = strtoull(word, &end, 0);
	question->is_buffer = strncmp(word, "0x", 2);
	question->buffer = (uint32_t)question->address;
	return !*end && !errno && (!question->is_buffer || question->address <= UINT32_MAX);
}

int who(const struct options *options)
{
	struct question question;
	const struct object *object;
	struct table *table;

	if (!parse_question(options->word, &question)) {
		complain("'%s' is no buffer, no address (0x...) and no device", options->word);
		return EXIT_USAGE;
	}
	load_all();
	if (question.is_buffer && !find_object(NOUN_BUFFERS, question.buffer)) {
		complain("there is no buffer %u that you may see", question.buffer);
		return EXIT_REFUSED;
	}
	table = table_new(who_columns, sizeof(who_columns) / sizeof(who_columns[0]));
	for_each_object(object, NOUN_BUFFERS)
		if (wants_buffer(&question, object->sid))
			add_buffer(table, object->sid);
	for_each_object(object, NOUN_REGIONS)
		if (question.is_bdf ? object->has_device && object->device == question.bdf :
				      !question.is_buffer && contains(object, question.address))
			add_region(table, object);
	table_print(table, options->present & OPTION_JSON);
	return 0;
}

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

#define NR(a) (sizeof(a) / sizeof((a)[0]))

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

/* Objects by what they have in common, so that one look finds all; in order of sid among these. */
struct index {
	enum noun noun;
	uint64_t (*key)(const struct object *object);
	const struct object **sorted;
};

static uint64_t process_key(const struct object *object)
{
	return (uint64_t)object->pid << 32 | object->uid;
}

static uint64_t domain_key(const struct object *object)
{
	return object->domain;
}

/* What it is of: a buffer, or a region. */
static uint64_t source_key(const struct object *object)
{
	return object->buffer;
}

static uint64_t sid_key(const struct object *object)
{
	return object->sid;
}

static int compare_keys(const void *a, const void *b, void *arg)
{
	const struct object *x = *(const struct object *const *)a;
	const struct object *y = *(const struct object *const *)b;
	const struct index *index = arg;
	uint64_t i = index->key(x), j = index->key(y);

	if (i != j)
		return i < j ? -1 : 1;
	return x < y ? -1 : x > y;
}

static void index_make(struct index *index)
{
	const struct objects *objects = &all[index->noun];
	size_t i;

	index->sorted = calloc(objects->nr + 1, sizeof(const struct object *));
	if (!index->sorted) {
		complain("out of memory");
		exit(EXIT_REFUSED);
	}
	for (i = 0; i < objects->nr; i++)
		index->sorted[i] = &objects->object[i];
	qsort_r(index->sorted, objects->nr, sizeof(const struct object *), compare_keys, index);
}

/* The first of those that have this key, if there is one. */
static size_t index_first(const struct index *index, uint64_t key)
{
	size_t low = 0, high = all[index->noun].nr;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (index->key(index->sorted[middle]) < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Each object @pos of @index with the key @k; @i counts. */
#define for_each_of(pos, i, index, k)                                                              \
	for ((i) = index_first(index, k);                                                          \
	     ((pos) = (index)->sorted[i]) && (index)->key(pos) == (k); (i)++)

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
	/* It is what its process says it is, and this is somebody else's terminal. */
	for (char *c = name; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	snprintf(text, sizeof(text), "%s[%u]", name[0] ? name : "?", object->pid);
	return text;
}

/* ---- tree ---- */

static struct index domains = { NOUN_DOMAINS, process_key, NULL };
static struct index regions = { NOUN_REGIONS, process_key, NULL };
static struct index mappings = { NOUN_MAPPINGS, process_key, NULL };
static struct index buffers = { NOUN_BUFFERS, process_key, NULL };
static struct index domain_accesses = { NOUN_ACCESSES, domain_key, NULL };

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
	uint64_t key = domain->sid;
	size_t i;

	printf("  domain %u", domain->sid);
	print_state(domain);
	printf("%s, %s\n", domain->automatic ? " (automatic)" : "", mode_word(domain->mode));
	for (i = 0; i < domain->nr_members; i++)
		printf("    device %s\n", bdf_name(domain->members[i]).text);
	for_each_of(access, i, &domain_accesses, key) {
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
	uint64_t key = process_key(process);
	const struct object *object;
	size_t i;

	printf("%s, user %u\n", process_name(process), process->uid);
	for_each_of(object, i, &domains, key)
		print_domain(object);
	for_each_of(object, i, &regions, key) {
		printf("  region %u", object->sid);
		print_state(object);
		if (object->has_device)
			printf(" of %s", bdf_name(object->device).text);
		printf(", %" PRIu64 " bytes\n", object->length);
	}
	for_each_of(object, i, &mappings, key) {
		printf("  mapping %u", object->sid);
		print_state(object);
		printf(" at %#" PRIx64 ", %s: ", object->start, map_words(object->flags));
		if (object->type == KOSDMA_HANDLE_BUFFER)
			print_buffer(object->buffer);
		else
			printf("%s %u\n", type_word(object->type), object->buffer);
	}
	for_each_of(object, i, &buffers, key) {
		if (shown[object - all[NOUN_BUFFERS].object])
			continue;
		printf("  ");
		print_buffer(object->sid);
	}
}

int tree(const struct options *options)
{
	struct index *const owned[] = { &domains, &regions, &mappings, &buffers };
	size_t next[NR(owned)] = { 0 }, i;

	(void)options;
	load_all();
	for (i = 0; i < NR(owned); i++)
		index_make(owned[i]);
	index_make(&domain_accesses);
	shown = calloc(all[NOUN_BUFFERS].nr + 1, 1);
	if (!shown) {
		complain("out of memory");
		return EXIT_REFUSED;
	}
	/* All are in order of process: the next one is the least that any has. */
	for (;;) {
		const struct object *process = NULL;

		for (i = 0; i < NR(owned); i++) {
			const struct object *first = owned[i]->sorted[next[i]];

			if (first && (!process || process_key(first) < process_key(process)))
				process = first;
		}
		if (!process)
			break;
		print_process(process);
		for (i = 0; i < NR(owned); i++)
			while (owned[i]->sorted[next[i]] &&
			       process_key(owned[i]->sorted[next[i]]) == process_key(process))
				next[i]++;
	}
	free(shown);
	return 0;
}

/* ---- who ---- */

static struct index source_mappings = { NOUN_MAPPINGS, source_key, NULL };
static struct index buffer_accesses = { NOUN_ACCESSES, source_key, NULL };
static struct index buffer_quarantine = { NOUN_QUARANTINE, source_key, NULL };
static struct index handles = { NOUN_HANDLES, sid_key, NULL };

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
static bool wants_buffer(const struct question *question, uint64_t sid)
{
	const struct object *object;
	size_t i;

	if (question->is_buffer)
		return sid == question->buffer;
	for_each_of(object, i, &buffer_accesses, sid) {
		if (object->state)
			continue;
		if (question->is_bdf ?
			    has_member(find_object(NOUN_DOMAINS, object->domain), question->bdf) :
			    contains(object, question->address))
			return true;
	}
	for_each_of(object, i, &source_mappings, sid)
		if (!question->is_bdf && contains(object, question->address))
			return true;
	for_each_of(object, i, &buffer_quarantine, sid)
		if (question->is_bdf && object->has_device && object->device == question->bdf)
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
			access->state ? "lingering access" : "access", access->sid);
	}
}

static void add_mappings(struct table *table, const char *kind, uint64_t source)
{
	const struct object *object;
	size_t i;

	for_each_of(object, i, &source_mappings, source)
		if (!object->state)
			add_row(table, kind, (uint32_t)source, process_name(object),
				may(object->flags & KOSDMA_MAP_READ,
				    object->flags & KOSDMA_MAP_WRITE),
				"mapping", object->sid);
}

static void add_buffer(struct table *table, uint64_t sid)
{
	const struct object *object;
	char who[32];
	size_t i;

	add_mappings(table, "buffer", sid);
	for_each_of(object, i, &buffer_accesses, sid)
		if (!object->state || object->state == KOSDMA_NL_OBJECT_LINGERING)
			add_access(table, object);
	for_each_of(object, i, &buffer_quarantine, sid) {
		snprintf(who, sizeof(who), "device %s",
			 object->has_device ? bdf_name(object->device).text : "several");
		add_row(table, "buffer", (uint32_t)sid, who, "read,write", "quarantined access",
			object->sid);
	}
	for_each_of(object, i, &handles, sid)
		if (!object->state &&
		    object->flags & (KOSDMA_RIGHT_DMA_READ | KOSDMA_RIGHT_DMA_WRITE))
			add_row(table, "buffer", (uint32_t)sid, "whoever has it",
				may(object->flags & KOSDMA_RIGHT_DMA_READ,
				    object->flags & KOSDMA_RIGHT_DMA_WRITE),
				"handle", object->number);
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
	index_make(&source_mappings);
	index_make(&buffer_accesses);
	index_make(&buffer_quarantine);
	index_make(&handles);
	if (question.is_buffer && !find_object(NOUN_BUFFERS, question.buffer)) {
		complain("there is no buffer %u that you may see", question.buffer);
		return EXIT_REFUSED;
	}
	table = table_new(who_columns, NR(who_columns));
	for_each_object(object, NOUN_BUFFERS)
		if (wants_buffer(&question, object->sid))
			add_buffer(table, object->sid);
	for_each_object(object, NOUN_REGIONS)
		if (question.is_bdf ? object->has_device && object->device == question.bdf :
				      !question.is_buffer && contains(object, question.address))
			add_mappings(table, "region", object->sid);
	table_print(table, options->present & OPTION_JSON);
	return 0;
}

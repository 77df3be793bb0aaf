// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include "kosctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Cells lie row after row. */
struct table {
	const struct column *columns;
	int nr_columns;
	char **cells;
	size_t nr_cells;
	size_t room;
};

static void *check_memory(void *memory)
{
	if (!memory) {
		complain("out of memory");
		exit(EXIT_REFUSED);
	}
	return memory;
}

struct table *table_new(const struct column *columns, int nr)
{
	struct table *table = check_memory(calloc(1, sizeof(*table)));

	table->columns = columns;
	table->nr_columns = nr;
	return table;
}

void table_cell(struct table *table, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	if (fmt) {
		va_start(ap, fmt);
		if (vasprintf(&text, fmt, ap) < 0)
			text = NULL;
		va_end(ap);
		check_memory(text);
	}
	if (table->nr_cells == table->room) {
		table->room = table->room ? 2 * table->room : 64;
		table->cells = check_memory(
			reallocarray(table->cells, table->room, sizeof(*table->cells)));
	}
	table->cells[table->nr_cells++] = text;
}

void table_clear(struct table *table)
{
	while (table->nr_cells)
		free(table->cells[--table->nr_cells]);
}

static int compare_rows(const void *a, const void *b)
{
	char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

void table_sort(struct table *table)
{
	size_t row = (size_t)table->nr_columns;

	if (table->nr_cells)
		qsort(table->cells, table->nr_cells / row, row * sizeof(*table->cells),
		      compare_rows);
}

static const char *cell(const struct table *table, size_t row, int column)
{
	return table->cells[row * (size_t)table->nr_columns + (size_t)column];
}

bool print_colours(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !getenv("NO_COLOR") && term && strcmp(term, "dumb");
}

static void print_text(const struct table *table)
{
	bool colours = print_colours();
	size_t row, nr_rows = table->nr_cells / (size_t)table->nr_columns;
	int i, last = table->nr_columns - 1;
	int *width = check_memory(calloc((size_t)table->nr_columns, sizeof(*width)));

	for (i = 0; i <= last; i++) {
		width[i] = (int)strlen(table->columns[i].head);
		for (row = 0; row < nr_rows; row++) {
			const char *text = cell(table, row, i);

			if (text && (int)strlen(text) > width[i])
				width[i] = (int)strlen(text);
		}
	}
	if (colours)
		fputs("\033[1m", stdout);
	for (i = 0; i <= last; i++)
		printf("%-*s%s", i == last ? 0 : width[i], table->columns[i].head,
		       i == last ? "" : "  ");
	puts(colours ? "\033[0m" : "");
	for (row = 0; row < nr_rows; row++) {
		for (i = 0; i <= last; i++) {
			const char *text = cell(table, row, i);

			printf("%-*s%s", i == last ? 0 : width[i], text && *text ? text : "-",
			       i == last ? "\n" : "  ");
		}
	}
	free(width);
}

static void print_string(const char *text, size_t len)
{
	size_t i;

	putchar('"');
	for (i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < ' ')
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

void print_json_string(const char *text)
{
	if (text)
		print_string(text, strlen(text));
	else
		fputs("null", stdout);
}

static void print_words(const char *text)
{
	putchar('[');
	while (*text) {
		size_t len = strcspn(text, ",");

		print_string(text, len);
		text += len;
		if (*text) {
			text++;
			putchar(',');
		}
	}
	putchar(']');
}

/* One object a line: easy to read, and to compare. */
static void print_json(const struct table *table)
{
	size_t i, nr_columns = (size_t)table->nr_columns;

	putchar('[');
	for (i = 0; i < table->nr_cells; i++) {
		const struct column *column = &table->columns[i % nr_columns];
		const char *text = table->cells[i];

		if (i % nr_columns == 0)
			fputs(i ? ",\n{" : "\n{", stdout);
		else
			putchar(',');
		print_string(column->key, strlen(column->key));
		putchar(':');
		if (!text)
			fputs("null", stdout);
		else if (column->type == COLUMN_NUMBER)
			fputs(text, stdout);
		else if (column->type == COLUMN_WORDS)
			print_words(text);
		else
			print_string(text, strlen(text));
		if (i % nr_columns == nr_columns - 1)
			putchar('}');
	}
	fputs("\n]\n", stdout);
}

void table_print(struct table *table, bool json)
{
	if (json)
		print_json(table);
	else
		print_text(table);
	table_clear(table);
	free(table->cells);
	free(table);
}

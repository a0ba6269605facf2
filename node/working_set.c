/* SPDX-License-Identifier: Apache-2.0 */
#include "node/working_set.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_LINE "elsa-working-set 1\n"

static bool follows(const struct working_set_page *list, size_t i)
{
	return list[i].pid == list[i - 1].pid &&
	       list[i].address == list[i - 1].address + STORE_PAGE;
}

int working_set_encode(const struct working_set_page *list, size_t count, struct buf *to)
{
	int r = buf_append(to, FIRST_LINE, strlen(FIRST_LINE));
	for (size_t i = 0, run; i < count && r == 0; i += run) {
		for (run = 1; i + run < count && follows(list, i + run);)
			run++;
		r = buf_printf(to, "%d %" PRIx64 " %zu\n", (int)list[i].pid, list[i].address, run);
	}
	return r;
}

/* A number up to `end`, which it must be followed by. */
static bool take(const char **at, int base, char end, uint64_t most, uint64_t *value)
{
	char *behind;
	if (!strchr(base == 16 ? "0123456789abcdef" : "0123456789", **at) || !**at ||
	    (*at)[1] == 'x')
		return false;
	errno = 0;
	*value = strtoull(*at, &behind, base);
	if (errno || *behind != end || *value > most)
		return false;
	*at = behind + 1;
	return true;
}

static int decode_line(const char **at, struct working_set_page *list, size_t *count)
{
	uint64_t pid, address, run;
	if (!take(at, 10, ' ', INT32_MAX, &pid) ||
	    !take(at, 16, ' ', UINT64_C(1) << 57, &address) ||
	    !take(at, 10, '\n', UINT32_MAX, &run) || pid == 0 || run == 0 || address % STORE_PAGE)
		return -EBADMSG;
	for (; run > 0 && *count < WORKING_SET_MOST; run--, address += STORE_PAGE)
		list[(*count)++] =
			(struct working_set_page) { .pid = (int32_t)pid, .address = address };
	return 0;
}

int working_set_decode(const char *text, size_t len, struct working_set_page **list, size_t *count,
		       struct error *e)
{
	size_t first = strlen(FIRST_LINE);
	if (len < first || memcmp(text, FIRST_LINE, first) != 0 || strlen(text) != len)
		return error_set(e, EBADMSG, "the working set is not one");
	struct working_set_page *to = malloc(WORKING_SET_MOST * sizeof(*to));
	if (!to)
		return error_set(e, ENOMEM, "out of memory");
	*count = 0;
	for (const char *at = text + first; *at;) {
		if (decode_line(&at, to, count) < 0) {
			free(to);
			return error_set(e, EBADMSG, "the working set is damaged");
		}
	}
	*list = to;
	return 0;
}

int working_set_read(const char *dir, struct working_set_page **list, size_t *count,
		     struct error *e)
{
	cleanup_free char *path = fs_join(dir, WORKING_SET_FILE);
	cleanup_buf struct buf text = BUF_INIT(WORKING_SET_BYTES);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_read(path, &text, e);
	return r < 0 ? r : working_set_decode(buf_text(&text), text.len, list, count, e);
}

/* --- for store_write_hot() ------------------------------------------------------------ */

static int compare(const void *a, const void *b)
{
	const struct working_set_page *x = a, *y = b;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return (x->address > y->address) - (x->address < y->address);
}

static int add_memory(struct working_set *to, const struct working_set_page *pages, size_t count)
{
	to->pages = calloc(count, sizeof(*to->pages));
	to->memory = str_printf("pagemap-%d.img", (int)pages[0].pid);
	if (!to->pages || !to->memory)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (to->count == 0 || to->pages[to->count - 1] != pages[i].address)
			to->pages[to->count++] = pages[i].address;
	return 0;
}

int working_set_load(const char *dir, struct working_set **list, size_t *count, struct error *e)
{
	cleanup_free struct working_set_page *pages = NULL;
	size_t n = 0;
	*list = NULL;
	*count = 0;
	int r = working_set_read(dir, &pages, &n, e);
	if (r < 0)
		return r;
	qsort(pages, n, sizeof(*pages), compare);
	*list = calloc(n + 1, sizeof(**list));
	r = *list ? 0 : -ENOMEM;
	for (size_t i = 0, run; i < n && r == 0; i += run) {
		for (run = 1; i + run < n && pages[i + run].pid == pages[i].pid;)
			run++;
		r = add_memory(&(*list)[(*count)++], pages + i, run);
	}
	if (r == 0)
		return 0;
	working_set_free(*list, *count);
	*list = NULL;
	*count = 0;
	return error_set(e, ENOMEM, "out of memory");
}

void working_set_free(struct working_set *list, size_t count)
{
	for (size_t i = 0; list && i < count; i++) {
		free(list[i].memory);
		free(list[i].pages);
	}
	free(list);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "prices/prices.h"

#include "base/cleanup.h"
#include "base/units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MOST = 6, LINE_MOST = 512 };
#define PRICE_MOST 100000.0
#define BOOT_MS    90000

struct line {
	int number;
	char text[LINE_MOST];
	const char *word[WORDS_MOST];
	size_t count;
};

static int wrong(const struct line *l, struct error *e, const char *what)
{
	return error_fault(e, FAULT_BAD_INPUT, "line %d: %s", l->number, what);
}

static int take_name(const struct line *l, const char *word, char *to, size_t size, struct error *e)
{
	if (strlen(word) >= size)
		return wrong(l, e, "the name is too long");
	memcpy(to, word, strlen(word) + 1);
	return 0;
}

static int take_price(const struct line *l, const char *word, double *to, struct error *e)
{
	char *end;
	double value = strtod(word, &end);
	if (end == word || *end || !(value >= 0 && value <= PRICE_MOST))
		return wrong(l, e, "not a price such as 0.384");
	*to = value;
	return 0;
}

static size_t find_type(const struct prices *p, const char *name)
{
	size_t i = 0;
	while (i < p->type_count && strcmp(p->types[i].name, name) != 0)
		i++;
	return i;
}

static int line_type(const struct line *l, struct prices *p, struct error *e)
{
	if (l->count != 5)
		return wrong(l, e, "wanted is: type NAME CPUS MEMORY PRICE");
	if (p->type_count == PRICES_TYPES_MOST)
		return wrong(l, e, "there are too many types");
	if (find_type(p, l->word[1]) < p->type_count)
		return wrong(l, e, "the type was named before");
	struct price_type *t = &p->types[p->type_count];
	char *end;
	t->cpus = strtod(l->word[2], &end);
	if (*end || !(t->cpus > 0 && t->cpus < 100000))
		return wrong(l, e, "not a number of processors");
	if (units_parse_size(l->word[3], &t->memory_bytes) < 0 || t->memory_bytes <= 0)
		return wrong(l, e, "not a size such as 32G");
	int r = take_name(l, l->word[1], t->name, sizeof(t->name), e);
	if (r == 0)
		r = take_price(l, l->word[4], &t->hour, e);
	p->type_count += r == 0;
	return r;
}

static bool has_pool(const struct prices *p, const char *name)
{
	for (size_t i = 0; i < p->pool_count; i++)
		if (strcmp(p->pools[i].name, name) == 0)
			return true;
	return false;
}

static int line_pool(const struct line *l, struct prices *p, struct error *e)
{
	bool spot = l->count == 5 && strcmp(l->word[3], "spot") == 0;
	if (!spot && (l->count != 4 || strcmp(l->word[3], "on-demand") != 0))
		return wrong(l, e,
			     "wanted is: pool NAME TYPE spot PRICE, or: pool NAME TYPE "
			     "on-demand");
	if (p->pool_count == PRICES_POOLS_MOST)
		return wrong(l, e, "there are too many pools");
	if (has_pool(p, l->word[1]))
		return wrong(l, e, "the pool was named before");
	struct price_pool *pool = &p->pools[p->pool_count];
	pool->spot = spot;
	pool->type = find_type(p, l->word[2]);
	if (pool->type == p->type_count)
		return wrong(l, e, "there is no such type; \"type\" comes first");
	pool->hour = p->types[pool->type].hour;
	int r = take_name(l, l->word[1], pool->name, sizeof(pool->name), e);
	if (r == 0 && spot)
		r = take_price(l, l->word[4], &pool->hour, e);
	p->pool_count += r == 0;
	return r;
}

static int line_store(const struct line *l, struct prices *p, struct error *e)
{
	if (l->count != 4)
		return wrong(l, e, "wanted is: store GIB-MONTH 1000-PUTS 1000-GETS");
	int r = take_price(l, l->word[1], &p->store_gib_month, e);
	if (r == 0)
		r = take_price(l, l->word[2], &p->put_thousand, e);
	return r < 0 ? r : take_price(l, l->word[3], &p->get_thousand, e);
}

static int line_boot(const struct line *l, struct prices *p, struct error *e)
{
	if (l->count != 2 || units_parse_seconds(l->word[1], &p->boot_ms) < 0)
		return wrong(l, e, "wanted is: boot SECONDS");
	return 0;
}

static int line_currency(const struct line *l, struct prices *p, struct error *e)
{
	if (l->count != 2)
		return wrong(l, e, "wanted is: currency NAME");
	return take_name(l, l->word[1], p->currency, sizeof(p->currency), e);
}

static int line_as_of(const struct line *l, struct prices *p, struct error *e)
{
	if (l->count != 2)
		return wrong(l, e, "wanted is: as-of DATE");
	return take_name(l, l->word[1], p->as_of, sizeof(p->as_of), e);
}

static const struct {
	const char *name;
	int (*read)(const struct line *l, struct prices *p, struct error *e);
} kinds[] = {
	{ "type", line_type }, { "pool", line_pool },         { "store", line_store },
	{ "boot", line_boot }, { "currency", line_currency }, { "as-of", line_as_of },
};

static int take_line(struct line *l, struct prices *p, bool *head, struct error *e)
{
	l->count = 0;
	l->text[strcspn(l->text, "#\r")] = '\0';
	char *save = NULL;
	for (char *w = strtok_r(l->text, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
		if (l->count == WORDS_MOST)
			return wrong(l, e, "it has too many words");
		l->word[l->count++] = w;
	}
	if (!l->count)
		return 0;
	if (!*head) {
		*head = l->count == 2 && strcmp(l->word[0], "elsa-prices") == 0 &&
			strcmp(l->word[1], "1") == 0;
		return *head ? 0 : wrong(l, e, "it must begin with \"elsa-prices 1\"");
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(l->word[0], kinds[i].name) == 0)
			return kinds[i].read(l, p, e);
	return wrong(l, e, "not one of currency, as-of, type, pool, boot, store");
}

/* What is missing is not guessed. */
static int check_whole(const struct prices *p, bool head, struct error *e)
{
	bool on_demand = false;
	for (size_t i = 0; i < p->pool_count; i++)
		on_demand |= !p->pools[i].spot;
	if (!head)
		return error_fault(e, FAULT_BAD_INPUT, "it is empty");
	if (!on_demand)
		return error_fault(e, FAULT_BAD_INPUT, "it has no on-demand pool");
	if (!p->currency[0])
		return error_fault(e, FAULT_BAD_INPUT, "it does not say in what currency");
	if (p->store_gib_month < 0)
		return error_fault(e, FAULT_BAD_INPUT, "it does not say what storage costs");
	return 0;
}

int prices_parse(const char *text, struct prices *to, struct error *e)
{
	struct line l = { 0 };
	bool head = false;
	int r = 0;
	*to = (struct prices) { .boot_ms = BOOT_MS, .store_gib_month = -1 };
	while (r == 0 && *text) {
		size_t len = strcspn(text, "\n");
		l.number++;
		if (len >= sizeof(l.text))
			return wrong(&l, e, "it is too long");
		memcpy(l.text, text, len);
		l.text[len] = '\0';
		r = take_line(&l, to, &head, e);
		text += len + (text[len] == '\n');
	}
	return r < 0 ? r : check_whole(to, head, e);
}

/* --- what is asked of it ------------------------------------------------------------------------
 */

static size_t first_on_demand(const struct prices *p)
{
	size_t i = 0;
	while (i < p->pool_count && p->pools[i].spot)
		i++;
	return p->pools[i].type;
}

struct price_memory prices_memory(const struct prices *p, const char *type, bool spot)
{
	size_t i = type ? find_type(p, type) : p->type_count;
	bool known = i < p->type_count;
	const struct price_type *t = &p->types[known ? i : first_on_demand(p)];
	double gib = (double)t->memory_bytes / (1 << 30);
	struct price_memory memory = { t->hour / gib, t->hour / gib };
	for (size_t k = 0; known && spot && k < p->pool_count; k++)
		if (p->pools[k].spot && p->pools[k].type == i) {
			memory.machine = p->pools[k].hour / gib;
			break;
		}
	return memory;
}

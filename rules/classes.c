/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/rules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void rules_classes_deinit(struct rules_classes *classes)
{
	for (size_t i = 0; i < classes->count; i++)
		free((char *)classes->list[i].name);
	free(classes->list);
	*classes = (struct rules_classes) { 0 };
}

static int add_class(struct rules_classes *to, const char *name, int64_t memory, double cpus,
		     double cost)
{
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	to->list[to->count++] = (struct size_class) { copy, memory, cpus, cost };
	return 0;
}

static double hour_of(const struct config_class *class, double gib_hour)
{
	if (class->price > 0)
		return class->price;
	return (double)class->memory_bytes / (1 << 30) * gib_hour;
}

static int add_configured(const struct config *config, const struct prices *p,
			  struct rules_classes *to)
{
	double gib_hour = prices_memory(p, NULL, false).demand;
	int r = 0;
	for (size_t i = 0; r == 0 && i < config->size.class_count; i++) {
		const struct config_class *class = &config->size.classes[i];
		r = add_class(to, class->name, class->memory_bytes, class->cpus,
			      hour_of(class, gib_hour));
	}
	return r;
}

static int add_catalogue(const struct prices *p, struct rules_classes *to)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < p->type_count; i++)
		r = add_class(to, p->types[i].name, p->types[i].memory_bytes, p->types[i].cpus,
			      p->types[i].hour);
	return r;
}

int rules_classes_make(const struct config *config, const struct prices *prices,
		       struct rules_classes *to, struct error *e)
{
	size_t most = config->size.catalogue ? prices->type_count : config->size.class_count;
	to->list = calloc(most + 1, sizeof(*to->list));
	int r = to->list ? 0 : -ENOMEM;
	if (r == 0 && config->size.catalogue)
		r = add_catalogue(prices, to);
	else if (r == 0)
		r = add_configured(config, prices, to);
	return r < 0 ? error_set(e, ENOMEM, "out of memory") : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "policies/place.h"

#include "base/cleanup.h"
#include "policies/features.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	const char *text;
} reasons[PLACE_REASON_COUNT] = {
	[PLACE_FITS] = { "fits", "fits" },
	[PLACE_DOWN] = { "down", "cannot be reached" },
	[PLACE_LOCAL] = { "local", "is the hub's own, which is to run none" },
	[PLACE_DRAINING] = { "draining", "draining" },
	[PLACE_DOOMED] = { "doomed", "goes away" },
	[PLACE_FAILED] = { "failed", "failed" },
	[PLACE_FEATURES] = { "features", "lacks" },
	[PLACE_IMAGE] = { "image", "has not the session's image" },
	[PLACE_UNFIT] = { "unfit", "does not do" },
	[PLACE_MEMORY] = { "memory", "short" },
	[PLACE_SMALL] = { "small", "too small, even if it were empty" },
};

const char *place_reason_name(enum place_reason reason)
{
	return (unsigned)reason < PLACE_REASON_COUNT ? reasons[reason].name : "?";
}

/* Sizes come from other machines: none may overflow into room, nor a negative one make it. */
static int64_t less(int64_t a, int64_t b)
{
	int64_t left;
	return __builtin_sub_overflow(a, b > 0 ? b : 0, &left) ? INT64_MIN : left;
}

static int64_t left_over(const struct place_request *r, const struct place_node *n)
{
	int64_t promised = less(less(n->memory_bytes, n->reserve_bytes), n->committed_bytes);
	int64_t measured = less(n->available_bytes, n->arriving_bytes);
	bool known = n->available_bytes >= 0;
	return less(known && measured < promised ? measured : promised, r->memory_bytes);
}

static bool fits_empty(const struct place_request *r, const struct place_node *n)
{
	return less(less(n->memory_bytes, n->reserve_bytes), r->memory_bytes) >= 0;
}

static enum place_reason reason_for(const struct place_request *r, const struct place_node *n,
				    int64_t left)
{
	if (n->local && !r->local_allowed)
		return PLACE_LOCAL;
	if (n->failed)
		return PLACE_FAILED;
	if (!n->up)
		return PLACE_DOWN;
	if (n->doomed)
		return PLACE_DOOMED;
	if (n->draining)
		return PLACE_DRAINING;
	if (n->unfit)
		return PLACE_UNFIT;
	if (features_missing(r->features, n->features, NULL, 0))
		return PLACE_FEATURES;
	if (!n->has_image)
		return PLACE_IMAGE;
	if (left >= 0)
		return PLACE_FITS;
	return fits_empty(r, n) ? PLACE_MEMORY : PLACE_SMALL;
}

static struct place_verdict judge(const struct place_request *r, const struct place_node *n)
{
	struct place_verdict v = { .left_bytes = left_over(r, n) };
	v.reason = reason_for(r, n, v.left_bytes);
	v.cpu_overcommit = r->cpu_overcommit > 0 && n->cpus > 0 &&
			   n->cpus_committed + r->cpus > n->cpus * r->cpu_overcommit;
	return v;
}

static bool differs(const char *wanted, const char *there)
{
	return wanted && wanted[0] && strcmp(wanted, there ? there : "") != 0;
}

/* Negative: `a` is taken before `b`. */
static int compare(const struct place_request *r, const struct place_node *a,
		   const struct place_verdict *va, const struct place_node *b,
		   const struct place_verdict *vb)
{
	const int steps[] = {
		a->avoid - b->avoid,
		va->cpu_overcommit - vb->cpu_overcommit,
		differs(r->zone, a->zone) - differs(r->zone, b->zone),
		differs(r->price, a->price) - differs(r->price, b->price),
		(va->left_bytes > vb->left_bytes) - (va->left_bytes < vb->left_bytes),
		b->last - a->last,
		b->local - a->local,
	};
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (steps[i])
			return steps[i];
	return strcmp(a->name, b->name);
}

/* In "open" the node asks the store for the checkpoint: what it says of that is so everywhere, but
 * not that it could not ask. */
bool place_elsewhere(enum fault fault, const char *step)
{
	bool opens = !step || strcmp(step, "open") == 0;
	switch (fault) {
	case FAULT_INTERNAL:
	case FAULT_DENIED:
	case FAULT_UNAVAILABLE:
	case FAULT_TIMEOUT:
	case FAULT_FULL:
		return true;
	case FAULT_NOT_FOUND:
	case FAULT_CONFLICT:
	case FAULT_REFUSED:
		return !opens;
	default:
		return false;
	}
}

int place(const struct place_request *request, const struct place_node *nodes, size_t count,
	  struct place_verdict *verdicts)
{
	struct place_verdict best_verdict = { 0 };
	int best = -1;
	for (size_t i = 0; i < count; i++) {
		struct place_verdict v = judge(request, &nodes[i]);
		if (verdicts)
			verdicts[i] = v;
		if (v.reason != PLACE_FITS)
			continue;
		if (best >= 0 && compare(request, &nodes[best], &best_verdict, &nodes[i], &v) <= 0)
			continue;
		best = (int)i;
		best_verdict = v;
	}
	return best;
}

static void explain_memory(int64_t left, char *to, size_t size)
{
	double mib = -(double)left / (1 << 20);
	if (mib >= 1024)
		snprintf(to, size, "%.1f GiB short", mib / 1024);
	else
		snprintf(to, size, "%.0f MiB short", mib < 1 ? 1 : mib);
}

static void explain_one(const struct place_request *r, const struct place_node *n,
			const struct place_verdict *v, char *to, size_t size)
{
	char missing[200];
	if (v->reason == PLACE_FEATURES) {
		features_missing(r->features, n->features, missing, sizeof(missing));
		snprintf(to, size, "lacks %s", missing);
	} else if (v->reason == PLACE_FAILED) {
		snprintf(to, size, "%s", n->failed);
	} else if (v->reason == PLACE_UNFIT) {
		snprintf(to, size, "%s", n->unfit);
	} else if (v->reason == PLACE_MEMORY) {
		explain_memory(v->left_bytes, to, size);
	} else {
		snprintf(to, size, "%s", reasons[v->reason].text);
	}
}

void place_explain(const struct place_request *request, const struct place_node *nodes,
		   const struct place_verdict *verdicts, size_t count, char *to, size_t size)
{
	size_t used = 0;
	to[0] = '\0';
	for (size_t i = 0; i < count && used < size; i++) {
		char why[256];
		if (verdicts[i].reason == PLACE_FITS)
			continue;
		explain_one(request, &nodes[i], &verdicts[i], why, sizeof(why));
		int n = snprintf(to + used, size - used, "%s%s: %s", used ? "; " : "",
				 nodes[i].name, why);
		used += n > 0 ? (size_t)n : 0;
	}
}

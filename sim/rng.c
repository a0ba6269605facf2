/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/rng.h"

#include <math.h>

#define GOLDEN 0x9e3779b97f4a7c15u
#define PI     3.14159265358979323846

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

struct rng rng_stream(uint64_t seed, uint64_t stream)
{
	return (struct rng) { mix(mix(seed + GOLDEN) + stream * GOLDEN) };
}

uint64_t rng_next(struct rng *r)
{
	return mix(r->state += GOLDEN);
}

double rng_uniform(struct rng *r)
{
	return (double)(rng_next(r) >> 11) * 0x1p-53;
}

double rng_exponential(struct rng *r, double mean)
{
	return -mean * log(1 - rng_uniform(r));
}

/* Box and Muller; its second value is left, so that the state is one number. */
double rng_normal(struct rng *r)
{
	double radius = sqrt(-2 * log(1 - rng_uniform(r)));
	return radius * cos(2 * PI * rng_uniform(r));
}

double rng_lognormal(struct rng *r, double median, double sigma)
{
	return median * exp(sigma * rng_normal(r));
}

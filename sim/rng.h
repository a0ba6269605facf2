/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_SIM_RNG_H
#define ELSA_SIM_RNG_H

/*
 * Random numbers that are the same everywhere for the same seed: SplitMix64
 * (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA
 * 2014). Streams of one seed do not depend on each other, so that one more user
 * changes nothing about the others. Thread-safe.
 */

#include <stdint.h>

struct rng {
	uint64_t state;
};

struct rng rng_stream(uint64_t seed, uint64_t stream);
uint64_t rng_next(struct rng *r);
double rng_uniform(struct rng *r);                  /* [0, 1) */
double rng_normal(struct rng *r);                   /* mean 0, deviation 1 */
double rng_exponential(struct rng *r, double mean); /* > 0 */
double rng_lognormal(struct rng *r, double median, double sigma);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed frames, as a store gives them back: a place (pack and offset, 4 and 8 bytes) and a frame.
 * None opens but what was sealed for that very place; and the same bytes sealed open again, there,
 * whole and unchanged, and nowhere else. */
#include "base/cleanup.h"
#include "store/seal.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

enum { PLACE = 12 };

DEFINE_CLEANUP(struct sealer *, sealer_free)

struct place {
	uint32_t pack;
	uint64_t offset;
};

static bool is_nothing(const uint8_t *data, size_t size)
{
	uint8_t any = 0;
	for (size_t i = 0; i < size; i++)
		any |= data[i];
	return any == 0;
}

/* False: it did not open, and nothing of it was given out. */
static bool opens(struct sealer *s, struct place at, const uint8_t *frame, size_t size, uint8_t *to)
{
	struct error e = ERROR_INIT;
	int r = open_frame(s, at.pack, at.offset, frame, size, to, &e);
	if (r == 0)
		return true;
	FUZZ_CHECK(r == -EBADMSG && e.text[0]);
	FUZZ_CHECK(size < SEAL_TAG || is_nothing(to, size - SEAL_TAG));
	return false;
}

/* What opens is what is made of its contents there, to the last bit. */
static void as_it_came(struct sealer *s, struct place at, const uint8_t *frame, size_t size)
{
	cleanup_free uint8_t *open = malloc(size + 1), *again = malloc(size + 1);
	FUZZ_CHECK(open && again);
	if (!opens(s, at, frame, size, open))
		return;
	FUZZ_CHECK(seal_frame(s, at.pack, at.offset, open, size - SEAL_TAG, again, NULL) == 0);
	FUZZ_CHECK(memcmp(again, frame, size) == 0);
}

static void there_and_back(struct sealer *s, struct sealer *other, struct place at,
			   const uint8_t *data, size_t size)
{
	size_t len = size + SEAL_TAG;
	const struct place next = { at.pack + 1, at.offset }, behind = { at.pack, at.offset + 1 };
	cleanup_free uint8_t *frame = malloc(len), *open = malloc(len);
	FUZZ_CHECK(frame && open);
	FUZZ_CHECK(seal_frame(s, at.pack, at.offset, data, size, frame, NULL) == 0);
	FUZZ_CHECK(opens(s, at, frame, len, open));
	FUZZ_CHECK(size == 0 || memcmp(open, data, size) == 0);
	FUZZ_CHECK(!opens(s, next, frame, len, open));
	FUZZ_CHECK(!opens(s, behind, frame, len, open));
	FUZZ_CHECK(!opens(other, at, frame, len, open));
	FUZZ_CHECK(!opens(s, at, frame, len - 1, open));
	frame[(at.pack ^ at.offset) % len] ^= (uint8_t)(1 << at.pack % 8);
	FUZZ_CHECK(!opens(s, at, frame, len, open));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct seal_key key = { "a key" }, another = { "another key" };
	cleanup(sealer_freep) struct sealer *s = NULL, *other = NULL;
	struct place at;
	if (size < PLACE)
		return 0;
	FUZZ_CHECK(sealer_new(&key, &s, NULL) == 0 && sealer_new(&another, &other, NULL) == 0);
	memcpy(&at.pack, data, sizeof(at.pack));
	memcpy(&at.offset, data + sizeof(at.pack), sizeof(at.offset));
	as_it_came(s, at, data + PLACE, size - PLACE);
	there_and_back(s, other, at, data + PLACE, size - PLACE);
	return 0;
}

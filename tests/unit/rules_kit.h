/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_RULES_KIT_H
#define ELSA_TESTS_RULES_KIT_H

/* Rules for nft, as text. Behind cmocka.h. */

#include "base/buf.h"

#include <string.h>

/* Where `text` begins in the rules; fails the test when it does not. */
static inline size_t at(const struct buf *rules, const char *text)
{
	const char *found = strstr(buf_text(rules), text);
	if (!found)
		fail_msg("no \"%s\" in\n%s", text, buf_text(rules));
	return (size_t)(found - buf_text(rules));
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_WIRE_TEXT_H
#define ELSA_WIRE_TEXT_H

/* Text of any origin as a JSON string, and what JSON objects hold. Thread-safe. */

#include <jansson.h>
#include <stdint.h>

/* New reference, or NULL when out of memory. Bytes that are not UTF-8 become U+FFFD: a line of a
 * log or a message cut in the middle of a character must not keep an answer from being sent. */
json_t *wire_text(const char *text);

/* Of an object or NULL. "" and 0 where there is none, or something else; the text is the object's.
 */
const char *wire_text_at(const json_t *object, const char *key);
int64_t wire_number_at(const json_t *object, const char *key);

#endif

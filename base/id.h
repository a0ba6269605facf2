/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_BASE_ID_H
#define ELSA_BASE_ID_H

/*
 * Identifiers that are safe as file, interface and cgroup names whatever the
 * user is called: lower-case hexadecimal. Thread-safe.
 */

#include <stdbool.h>

#define ID_SIZE 17 /* 16 digits and NUL */

void id_new(char to[ID_SIZE]); /* 64 random bits from getrandom(2) */
bool id_valid(const char *id); /* 16 hexadecimal digits, nothing else */

#endif

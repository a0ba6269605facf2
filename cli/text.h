/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_CLI_TEXT_H
#define ELSA_CLI_TEXT_H

/*
 * Text of any origin for a terminal. Users, sessions and their logs may hold
 * escape sequences, C1 controls or marks that turn the direction of writing:
 * the terminal must not obey them. Thread-safe.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Copies whole characters as long as they fit; what could be obeyed becomes '?'. */
void text_harmless(const char *from, char *to, size_t size);

/* The same onto a stream; of a name for one line, and of text, whose line breaks and tabs stay. */
void text_print_name(FILE *to, const char *name);
void text_print(FILE *to, const char *text);

/* Columns on a terminal (of harmless text). */
int text_width(const char *text);

/* Cuts the text to so many columns; the last one then shows that there was more. */
void text_cut(char *text, size_t size, int columns);

bool text_is_utf8(const char *text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_NODE_HOME_NOTE_H
#define ELSA_NODE_HOME_NOTE_H

/*
 * A file in a session's home that tells its user something: the one way to be
 * heard there by somebody who has only the session before him. It is read and
 * written with the user's own rights, relative to the home, and follows no
 * symbolic link: whatever lies there can send it nowhere else. A home may hang
 * (NFS): for workers.
 */

#include "base/clock.h"
#include "wire/messages.h"

/* With the session's id. */
#define HOME_NOTE_NAME "SAVE-YOUR-WORK.%s.txt"

/* Replaces the one that is there, or what else the user has put there, but for a directory. */
int home_note_write(const struct session_spec *spec, const char *text, struct error *e);
/* Anything but a file of the user's is left alone; none is fine. */
int home_note_remove(const struct session_spec *spec, struct error *e);

/* What it says of a session that cannot be saved; allocated, or NULL. `why`: CRIU's words, or
 * others'; `snapshot_at` 0: it has no checkpoint. */
char *home_note_text(const struct session_spec *spec, wall_ms deadline, const char *why,
		     wall_ms snapshot_at);

#endif

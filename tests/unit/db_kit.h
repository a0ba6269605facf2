/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_DB_KIT_H
#define ELSA_TESTS_DB_KIT_H

/* A database of a test's own, in a directory that goes with it. Behind cmocka.h. */

#include "base/fs.h"
#include "db/db.h"

#include <stdio.h>
#include <stdlib.h>

static char directory[64];
static char path[96];
static struct db *db;

static int open_db(void **state)
{
	(void)state;
	struct error e = ERROR_INIT;
	snprintf(directory, sizeof(directory), "/tmp/elsa-test-db-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/elsa.db", directory);
	return db_open(path, &db, &e);
}

static int close_db(void **state)
{
	(void)state;
	db = db_close(db);
	return fs_remove_tree(directory, NULL);
}

#endif

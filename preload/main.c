/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "preload/criu.h"
#include "preload/parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* docs/criu.md, "prlimit without CAP_SYS_RESOURCE". */
static void take_ids(const char *ids)
{
	char *behind;
	unsigned long uid = strtoul(ids, &behind, 10);
	unsigned long gid = strtoul(behind, NULL, 10);
	if (setresgid((gid_t)gid, (gid_t)-1, (gid_t)-1) < 0 ||
	    setresuid((uid_t)uid, (uid_t)-1, (uid_t)-1) < 0)
		_exit(126);
}

/* Not in a shell that is to execute CRIU. */
static int is_criu(int argc, char **argv)
{
	return argc > 1 && (strcmp(argv[1], "dump") == 0 || strcmp(argv[1], "restore") == 0);
}

__attribute__((constructor)) static void begin(int argc, char **argv)
{
	if (!is_criu(argc, argv))
		return;
	const char *unseen = getenv(CRIU_UNSEEN), *ids = getenv(CRIU_IDS);
	script_begin();
	/* It is loaded, and nothing else: what it is to work on may not be there yet. */
	if (script_ask("loaded\n") < 0)
		_exit(1);
	script_tell("begun\n");
	if (unseen)
		memory_begin(unseen);
	if (ids)
		take_ids(ids);
}

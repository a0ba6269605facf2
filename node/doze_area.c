/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/doze_area.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/job.h"
#include "node/cgroup.h"
#include "node/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum {
	PRIORITY = SWAP_FLAG_PRIO_MASK, /* before what the machine has of its own */
	MKSWAP_MS = 60000,
	SWAPS_MOST = 1 << 20
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- the note ---------------------------------------------------------------------- */

#define AT(member) .offset = offsetof(struct doze_record, member)

static const struct wire_field record_fields[] = {
	{ "boot_id", WIRE_STRING, AT(boot_id), .required = true },
	{ "kind", WIRE_STRING, AT(kind), .required = true },
	{ "name", WIRE_STRING, AT(name), .required = true },
	{ "size_bytes", WIRE_INT, AT(size_bytes), .required = true },
	{ "added", WIRE_BOOL, AT(added) },
};

static const struct wire_struct wire_doze_record = {
	.name = "doze_record",
	.size = sizeof(struct doze_record),
	.fields = record_fields,
	.field_count = ARRAY_SIZE(record_fields),
};

static char *note_path(const struct config *config)
{
	return fs_join(config->node.run_dir, "doze.json");
}

static int note(const struct config *config, const struct doze_record *record, struct error *e)
{
	cleanup_free char *path = note_path(config);
	cleanup_json json_t *json = wire_encode(&wire_doze_record, record);
	cleanup_free char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
	if (!path || !text)
		return error_set(e, ENOMEM, "out of memory");
	return fs_replace_soon(path, text, strlen(text), 0600, e);
}

/* -ENOENT when nothing was made. One that cannot be read is none: what it named goes with the boot.
 */
static int load(const struct config *config, struct doze_record *to)
{
	cleanup_free char *path = note_path(config);
	cleanup_buf struct buf text = BUF_INIT(64 << 10);
	*to = (struct doze_record) { 0 };
	if (!path || fs_read(path, &text, NULL) < 0)
		return -ENOENT;
	return wire_decode_text(&wire_doze_record, buf_text(&text), text.len, to, NULL) < 0
		       ? -ENOENT
		       : 0;
}

static void forget(const struct config *config)
{
	cleanup_free char *path = note_path(config);
	if (path)
		unlink(path);
}

/* --- the kernel's list --------------------------------------------------------------- */

/* Of a space and the like the kernel writes \040. */
static void copy_path(char *to, size_t size, const char *from, size_t len)
{
	size_t n = 0;
	for (size_t i = 0; i < len && n + 1 < size; i++) {
		bool escaped = from[i] == '\\' && i + 3 < len;
		to[n++] = escaped ? (char)strtol(
					    (char[]) { from[i + 1], from[i + 2], from[i + 3], 0 },
					    NULL, 8)
				  : from[i];
		i += escaped ? 3 : 0;
	}
	to[n] = '\0';
}

static bool parse_line(const char *line, size_t len, struct doze_swap *to)
{
	long long size, used;
	size_t path = strcspn(line, " \t\n");
	if (path == 0 || path >= len || sscanf(line + path, "%*s %lld %lld", &size, &used) != 2 ||
	    size < 0 || used < 0)
		return false;
	copy_path(to->path, sizeof(to->path), line, path);
	to->size_bytes = size * 1024;
	to->used_bytes = used * 1024;
	return true;
}

bool doze_swap_next(const char **text, struct doze_swap *to)
{
	while (**text) {
		const char *line = *text;
		size_t len = strcspn(line, "\n");
		*text += len + (line[len] == '\n');
		cleanup_free char *one = strndup(line, len);
		if (one && parse_line(one, len, to))
			return true;
	}
	return false;
}

/* A name in another root than ours leads nowhere: the last part of it must do. */
static bool is_same(const char *a, const char *b)
{
	struct stat sa, sb;
	if (stat(a, &sa) == 0 && stat(b, &sb) == 0 && S_ISBLK(sa.st_mode) && S_ISBLK(sb.st_mode))
		return sa.st_rdev == sb.st_rdev;
	return strcmp(basename(a), basename(b)) == 0;
}

static bool find_swap(const char *path, struct doze_swap *to)
{
	cleanup_buf struct buf text = BUF_INIT(SWAPS_MOST);
	if (!path || fs_read("/proc/swaps", &text, NULL) < 0)
		return false;
	for (const char *at = buf_text(&text); doze_swap_next(&at, to);)
		if (is_same(to->path, path))
			return true;
	return false;
}

/* --- making it ----------------------------------------------------------------------- */

static bool is_kind(const struct config *config, const char *kind)
{
	return strcmp(config->doze.swap, kind) == 0;
}

static char *path_of(const struct doze_record *record)
{
	return strcmp(record->kind, "zram") == 0 ? doze_zram_path(record->name)
						 : doze_file_path(record->name);
}

static int64_t memory_bytes(void)
{
	struct sysinfo info;
	return sysinfo(&info) == 0 ? (int64_t)(info.totalram * info.mem_unit) : 0;
}

static int64_t size_of(const struct config *config)
{
	enum { PAGE = 4096 };
	int64_t size = config->doze.size_bytes ? config->doze.size_bytes : memory_bytes();
	return size / PAGE * PAGE;
}

/* Sessions that were started before: nothing of theirs is to go there unless they doze. */
static int keep_in_memory(const char *id, void *arg)
{
	struct cgroup cg;
	const struct config *config = arg;
	int r = cgroup_init(&cg, config->node.cgroup, id, NULL);
	if (r == 0)
		r = cgroup_set_swap(&cg, CGROUP_SWAP_NONE, NULL);
	cgroup_deinit(&cg);
	return r == -ENOENT ? 0 : r;
}

static int use(const struct config *config, const char *path, struct error *e)
{
	const char *const mkswap[] = { "mkswap", "--label", "elsa-doze", path, NULL };
	int r = job_check(&JOB_OPTIONS(.argv = mkswap, .timeout_ms = MKSWAP_MS), e);
	if (r == 0)
		r = cgroup_each(config->node.cgroup, keep_in_memory, (void *)config, e);
	if (r < 0)
		return r;
	if (swapon(path, SWAP_FLAG_PREFER | PRIORITY) < 0 && errno != EBUSY)
		return error_errno(e, "cannot use %s as swap", path);
	log_info("the memory of dozing sessions goes to %s", path);
	return 0;
}

static int remove_recorded(const struct config *config, const struct doze_record *record,
			   const char *boot_id, struct error *e);

/* What a kill has left half made is gone on with; what belongs to another boot or another
 * configuration makes way. */
static int begin_record(const struct node *node, struct doze_record *record, struct error *e)
{
	const struct config *config = node->config;
	bool there = load(config, record) == 0;
	bool good = there && strcmp(record->boot_id, node->boot_id) == 0 &&
		    is_kind(config, record->kind);
	int r = there && !good ? remove_recorded(config, record, node->boot_id, e) : 0;
	if (good || r < 0)
		return r;
	wire_free(&wire_doze_record, record);
	*record = (struct doze_record) { .boot_id = strdup(node->boot_id),
					 .kind = strdup(config->doze.swap),
					 .size_bytes = size_of(config) };
	return record->boot_id && record->kind ? 0 : error_set(e, ENOMEM, "out of memory");
}

static int make(const struct node *node, struct error *e)
{
	const struct config *config = node->config;
	struct doze_record record;
	struct doze_swap swap;
	cleanup_free char *path = NULL;
	int r = begin_record(node, &record, e);
	if (r == 0 && record.name)
		path = path_of(&record);
	bool used = path && find_swap(path, &swap);
	if (r == 0 && !used) {
		free(steal_ptr(&path));
		r = is_kind(config, "zram") ? doze_zram_open(config, &record, note, &path, e)
					    : doze_file_open(config, &record, note, &path, e);
		if (r == 0)
			r = use(config, path, e);
	}
	wire_free(&wire_doze_record, &record);
	return r;
}

int doze_area_make(struct node *node, struct error *e)
{
	int r = 0;
	if (is_kind(node->config, "off") || is_kind(node->config, "system"))
		return doze_area_check(node->config, e);
	pthread_mutex_lock(&lock);
	r = make(node, e);
	pthread_mutex_unlock(&lock);
	return error_wrap(e, r, "the memory of dozing sessions has no place to go to");
}

/* --- looking -------------------------------------------------------------------------- */

static void add_all(struct doze_area *to)
{
	struct sysinfo info;
	if (sysinfo(&info) < 0)
		return;
	to->room_bytes = (int64_t)(info.freeswap * info.mem_unit);
	to->out_bytes = (int64_t)((info.totalswap - info.freeswap) * info.mem_unit);
}

static int check_system(struct error *e)
{
	struct sysinfo info;
	if (sysinfo(&info) == 0 && info.totalswap > 0)
		return 0;
	int r = error_fault(e, FAULT_UNAVAILABLE,
			    "doze.swap is \"system\", and this machine has no swap");
	return error_remedy(e, r,
			    "Add some (encrypted, for it holds what users work on), or set "
			    "doze.swap to \"zram\".");
}

int doze_area_check(const struct config *config, struct error *e)
{
	if (is_kind(config, "system"))
		return check_system(e);
	if (is_kind(config, "zram"))
		return doze_zram_check(e);
	if (is_kind(config, "file"))
		return doze_file_check(e);
	int r = error_fault(e, FAULT_UNAVAILABLE, "sessions do not doze on this node (doze.swap)");
	return error_remedy(e, r, "Set doze.swap to \"zram\".");
}

void doze_area_look(const struct node *node, struct doze_area *to)
{
	const struct config *config = node->config;
	struct doze_record record;
	struct doze_swap swap;
	*to = (struct doze_area) { 0 };
	if (is_kind(config, "system")) {
		add_all(to);
		return;
	}
	if (is_kind(config, "off"))
		return;
	bool made = load(config, &record) == 0 && strcmp(record.boot_id, node->boot_id) == 0;
	cleanup_free char *path = made ? path_of(&record) : NULL;
	to->room_bytes = size_of(config);
	if (path && find_swap(path, &swap)) {
		to->room_bytes = swap.size_bytes - swap.used_bytes;
		to->out_bytes = swap.used_bytes;
		to->stored_bytes =
			strcmp(record.kind, "zram") == 0 ? doze_zram_stored(record.name) : 0;
	}
	wire_free(&wire_doze_record, &record);
}

/* --- taking it away ---------------------------------------------------------------------- */

/* Of another boot only a file can be left. */
static int remove_recorded(const struct config *config, const struct doze_record *record,
			   const char *boot_id, struct error *e)
{
	struct doze_swap swap;
	bool zram = strcmp(record->kind, "zram") == 0;
	bool gone = zram && strcmp(record->boot_id, boot_id) != 0;
	cleanup_free char *path = path_of(record);
	if (!path)
		return error_set(e, ENOMEM, "out of memory");
	int r = 0;
	if (!gone && find_swap(path, &swap) && swapoff(path) < 0)
		return error_errno(e, "cannot take the memory in %s back", path);
	if (!gone)
		r = zram ? doze_zram_close(record, e) : doze_file_close(config, record, e);
	if (r == 0)
		forget(config);
	return r;
}

void doze_area_tidy(struct node *node, bool dozing)
{
	enum { LITTLE = 64 << 20 };
	struct doze_record record;
	struct doze_swap swap = { .used_bytes = 0 };
	struct error e = ERROR_INIT;
	if (load(node->config, &record) < 0)
		return;
	cleanup_free char *path = path_of(&record);
	bool old =
		strcmp(record.boot_id, node->boot_id) != 0 || !is_kind(node->config, record.kind);
	/* The kernel puts others' memory there, too. */
	int64_t most = dozing ? 0 : LITTLE;
	bool holds = old && find_swap(path, &swap) && swap.used_bytes > most;
	if (holds)
		log_warning("%s stays in use: there is memory in it", path);
	else if (old && remove_recorded(node->config, &record, node->boot_id, &e) < 0)
		log_warning("%s", e.text);
	wire_free(&wire_doze_record, &record);
}

int doze_area_remove(const struct config *config, struct error *e)
{
	struct doze_record record;
	char boot_id[BOOT_ID_SIZE];
	if (load(config, &record) < 0)
		return 0;
	pthread_mutex_lock(&lock);
	int r = proc_boot_id(boot_id, e);
	if (r == 0)
		r = remove_recorded(config, &record, boot_id, e);
	pthread_mutex_unlock(&lock);
	wire_free(&wire_doze_record, &record);
	return r;
}

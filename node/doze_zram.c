/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/job.h"
#include "node/doze_area.h"
#include "node/journal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/*
 * zram (Documentation/admin-guide/blockdev/zram.rst in the kernel's source). A device
 * without a size is nobody's: whoever writes one first has it, and everybody else
 * is told EBUSY. So one that a kill has left between being added and being noted
 * is not lost, but taken the next time.
 */

#define CONTROL     "/sys/class/zram-control"
#define TRIES       16
#define MODPROBE_MS 20000

static char *setting(const char *name, const char *what)
{
	return str_printf("/sys/block/%s/%s", name, what);
}

static int set(const char *name, const char *what, int64_t value, struct error *e)
{
	cleanup_free char *path = setting(name, what);
	cleanup_free char *text = str_printf("%lld", (long long)value);
	return path && text ? fs_write(path, text, e) : error_set(e, ENOMEM, "out of memory");
}

static int64_t get(const char *name, const char *what)
{
	cleanup_free char *path = setting(name, what);
	cleanup_buf struct buf text = BUF_INIT(4096);
	if (!path || fs_read(path, &text, NULL) < 0)
		return -1;
	return strtoll(buf_text(&text), NULL, 10);
}

char *doze_zram_path(const char *name)
{
	return str_printf("/dev/%s", name);
}

/* orig_data_size compr_data_size mem_used_total ... */
int64_t doze_zram_stored(const char *name)
{
	long long used = 0;
	cleanup_free char *path = setting(name, "mm_stat");
	cleanup_buf struct buf text = BUF_INIT(4096);
	if (path && fs_read(path, &text, NULL) == 0)
		sscanf(buf_text(&text), "%*d %*d %lld", &used);
	return used;
}

/* --- the module --------------------------------------------------------------------- */

static int load_module(bool only_look, struct error *e)
{
	const char *const argv[] = { "modprobe", "--quiet", "zram", only_look ? "--dry-run" : NULL,
				     NULL };
	if (access(CONTROL, F_OK) == 0)
		return 0;
	int r = job_check(&JOB_OPTIONS(.argv = argv, .timeout_ms = MODPROBE_MS), NULL);
	if (r == 0 && (only_look || access(CONTROL, F_OK) == 0))
		return 0;
	r = error_fault(e, FAULT_UNAVAILABLE, "this kernel has no zram");
	return error_remedy(e, r,
			    "Use a kernel with CONFIG_ZRAM (Debian's and Ubuntu's have it), or "
			    "another doze.swap.");
}

int doze_zram_check(struct error *e)
{
	return load_module(true, e);
}

/* --- choosing one ------------------------------------------------------------------- */

static int set_name(struct doze_record *record, const char *name, bool added, struct error *e)
{
	record->added = added;
	return journal_set(&record->name, name, e);
}

static int add_device(struct doze_record *record, struct error *e)
{
	char name[32];
	cleanup_buf struct buf text = BUF_INIT(64);
	int r = fs_read(CONTROL "/hot_add", &text, e);
	if (r < 0)
		return error_wrap(e, r, "cannot add a zram device");
	snprintf(name, sizeof(name), "zram%ld", strtol(buf_text(&text), NULL, 10));
	return set_name(record, name, true, e);
}

static int choose(struct doze_record *record, struct error *e)
{
	cleanup_dir DIR *dir = opendir("/sys/block");
	for (struct dirent *d; dir && (d = readdir(dir));)
		if (strncmp(d->d_name, "zram", 4) == 0 && get(d->d_name, "disksize") == 0)
			return set_name(record, d->d_name, false, e);
	return add_device(record, e);
}

/* --- making it ----------------------------------------------------------------------- */

/* One that the kernel lacks is no reason not to doze. */
static void set_compression(const struct config *config, const char *name)
{
	struct error e = ERROR_INIT;
	cleanup_free char *path = setting(name, "comp_algorithm");
	if (strcmp(config->doze.compression, "auto") == 0 || !path)
		return;
	if (fs_write(path, config->doze.compression, &e) < 0)
		log_warning("doze.compression: the kernel's own choice is used: %s", e.text);
}

/* -EBUSY when somebody else has taken it meanwhile. */
static int configure(const struct config *config, const struct doze_record *record, struct error *e)
{
	int64_t size = get(record->name, "disksize");
	int r = 0;
	if (size == 0) {
		set_compression(config, record->name);
		r = set(record->name, "disksize", record->size_bytes, e);
	} else if (size != record->size_bytes) {
		r = error_set(e, EBUSY, "%s is used by somebody else", record->name);
	}
	return r < 0 ? r : set(record->name, "mem_limit", record->size_bytes / 2, e);
}

/* Where no device file system makes it. */
static int make_file(const char *name, const char *path, struct error *e)
{
	unsigned major = 0, minor = 0;
	cleanup_free char *at = setting(name, "dev");
	cleanup_buf struct buf text = BUF_INIT(64);
	if (access(path, F_OK) == 0)
		return 0;
	int r = at ? fs_read(at, &text, e) : error_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	if (sscanf(buf_text(&text), "%u:%u", &major, &minor) != 2)
		return error_set(e, EIO, "%s: not a device's number", at);
	if (mknod(path, S_IFBLK | 0600, makedev(major, minor)) < 0 && errno != EEXIST)
		return error_errno(e, "cannot make %s", path);
	return 0;
}

int doze_zram_open(const struct config *config, struct doze_record *record, doze_note *note,
		   char **path, struct error *e)
{
	int r = load_module(false, e);
	for (int i = 0; r == 0 && i < TRIES; i++) {
		if (!record->name)
			r = choose(record, e);
		if (r == 0)
			r = note(config, record, e);
		if (r == 0)
			r = configure(config, record, e);
		if (r != -EBUSY)
			break;
		r = journal_set(&record->name, NULL, e);
	}
	if (r == 0 && !record->name)
		r = error_set(e, EBUSY, "no zram device is free");
	*path = r == 0 ? doze_zram_path(record->name) : NULL;
	if (r == 0)
		r = *path ? make_file(record->name, *path, e)
			  : error_set(e, ENOMEM, "out of memory");
	return r;
}

/* One of another size is somebody else's by now. */
int doze_zram_close(const struct doze_record *record, struct error *e)
{
	int64_t size = get(record->name, "disksize");
	if (size == record->size_bytes) {
		int r = set(record->name, "reset", 1, e);
		if (r < 0)
			return error_wrap(e, r, "cannot empty %s", record->name);
		size = 0;
	}
	if (size != 0 || !record->added)
		return 0;
	cleanup_free char *path = doze_zram_path(record->name);
	int r = fs_write(CONTROL "/hot_remove", record->name + strlen("zram"), e);
	/* A device file system has removed it by now. */
	if (r == 0 && path)
		unlink(path);
	return error_wrap(e, r, "cannot remove %s", record->name);
}

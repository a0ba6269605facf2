/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/id.h"
#include "io/job.h"
#include "node/doze_area.h"
#include "node/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/*
 * A file under dm-crypt, in plain mode: there is no header, and the key is made
 * here, handed to the kernel and forgotten. What lies on the disk when the machine
 * is off is nothing that anybody can read.
 */

enum { KEY_BYTES = 32, KEY_TEXT = KEY_BYTES * 2 + 1, TIMEOUT_MS = 60000 };

char *doze_file_path(const char *name)
{
	return str_printf("/dev/mapper/%s", name);
}

static char *file_of(const struct config *config)
{
	return fs_join(config->node.state_dir, "doze.swap");
}

static int lacks(struct error *e, const char *what)
{
	int r = error_fault(e, FAULT_UNAVAILABLE,
			    "doze.swap = \"file\" writes sessions' memory to disk only encrypted, "
			    "and %s",
			    what);
	return error_remedy(
		e, r,
		"apt-get install cryptsetup-bin, and use a kernel with CONFIG_DM_CRYPT; or "
		"set doze.swap to \"zram\", or to \"system\" with swap of your own.");
}

/* Needed before a device can be asked for. */
static int check_kernel(struct error *e)
{
	const char *const modprobe[] = { "modprobe", "--quiet", "dm_crypt", NULL };
	job_check(&JOB_OPTIONS(.argv = modprobe, .timeout_ms = TIMEOUT_MS), NULL);
	return access("/sys/class/misc/device-mapper", F_OK) == 0
		       ? 0
		       : lacks(e, "this kernel has no device mapper");
}

int doze_file_check(struct error *e)
{
	const char *const cryptsetup[] = { "cryptsetup", "--version", NULL };
	if (job_check(&JOB_OPTIONS(.argv = cryptsetup, .timeout_ms = TIMEOUT_MS), NULL) < 0)
		return lacks(e, "there is no cryptsetup");
	return check_kernel(e);
}

/* All of it at once: a disk that is full should be found out now. */
static int make_file(const char *path, int64_t size, struct error *e)
{
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_errno(e, "cannot make %s", path);
	int code = posix_fallocate(fd, 0, size);
	if (code == 0 && ftruncate(fd, size) < 0)
		code = errno;
	if (code == 0)
		return 0;
	unlink(path);
	int r = error_set(e, code, "no room for %lld bytes of %s: %s", (long long)size, path,
			  strerror(code));
	return error_remedy(e, r, "Set doze.size to what the disk has.");
}

/* In letters, since that is what is handed on. */
static int make_key(char to[KEY_TEXT], struct error *e)
{
	unsigned char bytes[KEY_BYTES];
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return error_errno(e, "cannot make a key");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(to + 2 * i, 3, "%02x", bytes[i]);
	explicit_bzero(bytes, sizeof(bytes));
	return 0;
}

static int map(const char *file, const char *name, struct error *e)
{
	char key[KEY_TEXT];
	const char *const argv[] = {
		"cryptsetup",      "open",       "--type", "plain",      "--cipher",
		"aes-xts-plain64", "--key-size", "512",    "--key-file", "-",
		"--batch-mode",    file,         name,     NULL
	};
	int r = make_key(key, e);
	if (r == 0)
		r = job_check(&JOB_OPTIONS(.argv = argv, .input = key, .timeout_ms = TIMEOUT_MS),
			      e);
	explicit_bzero(key, sizeof(key));
	return r;
}

int doze_file_open(const struct config *config, struct doze_record *record, doze_note *note,
		   char **path, struct error *e)
{
	char id[ID_SIZE];
	cleanup_free char *file = file_of(config);
	int r = file ? doze_file_check(e) : error_set(e, ENOMEM, "out of memory");
	if (r == 0 && !record->name) {
		id_new(id);
		record->name = str_printf("elsa-doze-%s", id);
		r = record->name ? 0 : error_set(e, ENOMEM, "out of memory");
	}
	*path = r == 0 ? doze_file_path(record->name) : NULL;
	if (r == 0)
		r = *path ? note(config, record, e) : error_set(e, ENOMEM, "out of memory");
	if (r < 0 || access(*path, F_OK) == 0)
		return r;
	r = make_file(file, record->size_bytes, e);
	return r < 0 ? r : map(file, record->name, e);
}

int doze_file_close(const struct config *config, const struct doze_record *record, struct error *e)
{
	const char *const argv[] = { "cryptsetup", "close", record->name, NULL };
	cleanup_free char *file = file_of(config);
	cleanup_free char *path = doze_file_path(record->name);
	int r = 0;
	if (!file || !path)
		return error_set(e, ENOMEM, "out of memory");
	if (access(path, F_OK) == 0)
		r = job_check(&JOB_OPTIONS(.argv = argv, .timeout_ms = TIMEOUT_MS), e);
	if (r == 0 && unlink(file) < 0 && errno != ENOENT)
		r = error_errno(e, "cannot remove %s", file);
	return r;
}

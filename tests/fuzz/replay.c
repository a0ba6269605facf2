/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target once on every file of the directories given. */
#include "base/cleanup.h"
#include "base/fs.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <string.h>

enum { INPUT_MAX = 16 << 20 };

static int replay_file(const char *path)
{
	cleanup_buf struct buf data = BUF_INIT(INPUT_MAX);
	struct error e = ERROR_INIT;
	if (fs_read(path, &data, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return -1;
	}
	/* Exactly as large as the input, so that a byte too many is seen. */
	cleanup_free uint8_t *copy = malloc(data.len ? data.len : 1);
	if (!copy)
		return -1;
	if (data.len)
		memcpy(copy, data.data, data.len);
	return LLVMFuzzerTestOneInput(copy, data.len);
}

static int replay_dir(const char *path)
{
	int count = 0;
	cleanup_dir DIR *dir = opendir(path);
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		cleanup_free char *file = fs_join(path, entry->d_name);
		if (entry->d_name[0] == '.')
			continue;
		if (!file || replay_file(file) != 0)
			return -1;
		count++;
	}
	return count;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int count = replay_dir(argv[i]);
		if (count <= 0) {
			fprintf(stderr, "%s: no inputs, or one could not be run\n", argv[i]);
			return 1;
		}
		printf("%s: %d inputs\n", argv[i], count);
	}
	return argc < 2;
}

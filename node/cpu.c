/* SPDX-License-Identifier: Apache-2.0 */
#include "node/cpu.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "policies/features.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

/*
 * Flags of /proc/cpuinfo on x86 that a program in user space can use. The file
 * has many more: the kernel's own work-arounds, what only a hypervisor can use,
 * what differs between kernels on one processor.
 */
static const char x86_flags[] =
	" 3dnow 3dnowext 3dnowprefetch abm adx aes amx_bf16 amx_complex amx_fp16 amx_int8 amx_tile"
	" avx avx10 avx2 avx512_4fmaps avx512_4vnniw avx512_bf16 avx512_bitalg avx512_fp16"
	" avx512_vbmi2 avx512_vnni avx512_vp2intersect avx512_vpopcntdq avx512bw avx512cd avx512dq"
	" avx512er avx512f avx512ifma avx512pf avx512vbmi avx512vl avx_ifma avx_ne_convert avx_vnni"
	" avx_vnni_int16 avx_vnni_int8 bmi1 bmi2 cldemote clflush clflushopt clwb clzero cmov"
	" cmpccxadd cx16 cx8 enqcmd erms f16c fma fma4 fpu fsgsbase fsrm fxsr gfni hle lahf_lm"
	" lwp misalignsse mmx mmxext monitorx movbe movdir64b movdiri ospke pclmulqdq pku pni "
	"popcnt"
	" prefetchi rdpid rdrand rdseed rdtscp rtm serialize sha512 sha_ni sm3 sm4 sse sse2 sse4_1"
	" sse4_2 sse4a ssse3 tbm tsc vaes vpclmulqdq waitpkg wbnoinvd xop xsave xsavec xsaveopt ";

static bool listed(const char *list, const char *word, size_t len)
{
	for (const char *p = list; (p = strstr(p, word)); p++)
		if (p > list && p[-1] == ' ' && p[len] == ' ')
			return true;
	return false;
}

static int compare_words(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The value of the first "NAME : value" line, allocated; NULL when there is none. */
static char *cpuinfo_line(const char *cpuinfo, const char *name)
{
	size_t len = strlen(name);
	for (const char *line = cpuinfo; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, len) != 0)
			continue;
		const char *value = line + len + strspn(line + len, " \t");
		if (*value++ != ':')
			continue;
		value += strspn(value, " \t");
		return strndup(value, strcspn(value, "\n"));
	}
	return NULL;
}

static char *sorted(const char *machine, char *words, unsigned xsave_bytes)
{
	enum { MOST = 1024 };
	char *list[MOST], *save = NULL;
	size_t count = 0;
	bool x86 = strcmp(machine, "x86_64") == 0;
	for (char *w = strtok_r(words, " \t", &save); w; w = strtok_r(NULL, " \t", &save))
		if (count < MOST && (!x86 || listed(x86_flags, w, strlen(w))))
			list[count++] = w;
	qsort(list, count, sizeof(*list), compare_words);
	struct buf text = BUF_INIT(64 << 10);
	buf_printf(&text, "%s", machine);
	if (xsave_bytes)
		buf_printf(&text, " xsave=%u", xsave_bytes);
	for (size_t i = 0; i < count; i++)
		buf_printf(&text, " %s", list[i]);
	return buf_steal(&text);
}

char *cpu_features_of(const char *machine, const char *cpuinfo, unsigned xsave_bytes)
{
	/* "flags" on x86, "Features" on arm64 and s390 ("features"). */
	cleanup_free char *words = cpuinfo_line(cpuinfo, "flags");
	if (!words)
		words = cpuinfo_line(cpuinfo, "Features");
	if (!words)
		words = strdup("");
	return words ? sorted(machine, words, xsave_bytes) : NULL;
}

static unsigned xsave_size(void)
{
#ifdef __x86_64__
	unsigned a, b, c, d;
	/* Leaf 13: bytes for the state components that the kernel has enabled. */
	if (__get_cpuid_count(13, 0, &a, &b, &c, &d))
		return b;
#endif
	return 0;
}

static int read_cpuinfo(struct buf *to, struct error *e)
{
	return fs_read("/proc/cpuinfo", to, e);
}

int cpu_features(char **features, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(16 << 20);
	struct utsname name;
	int r = read_cpuinfo(&text, e);
	if (r < 0)
		return r;
	if (uname(&name) < 0)
		return error_errno(e, "cannot ask the kernel for the kind of machine");
	*features = cpu_features_of(name.machine, buf_text(&text), xsave_size());
	return *features ? 0 : error_set(e, ENOMEM, "out of memory");
}

char *cpu_model(void)
{
	cleanup_buf struct buf text = BUF_INIT(16 << 20);
	if (read_cpuinfo(&text, NULL) < 0)
		return NULL;
	return cpuinfo_line(buf_text(&text), "model name");
}

char *cpu_missing(const char *needed, const char *have)
{
	char missing[8192];
	return features_missing(needed, have, missing, sizeof(missing)) ? strdup(missing) : NULL;
}

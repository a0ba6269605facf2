/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "io/job.h"
#include "node/doctor.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_criu_problem(void **state)
{
	(void)state;
	assert_non_null(strstr(doctor_criu_problem("3.17.1", "6.18.4"), "vDSO"));
	assert_non_null(strstr(doctor_criu_problem("4.1.1", "6.16.0-rc1"), "sockets"));
	assert_non_null(strstr(doctor_criu_problem("4.1", "7.0.1-amd64"), "sockets"));
	assert_null(doctor_criu_problem("4.2", "6.18.4"));
	assert_null(doctor_criu_problem("4.2.1", "7.1.0"));
	assert_null(doctor_criu_problem("5.0", "7.1.0"));
	assert_null(doctor_criu_problem("3.17.1", "6.1.0-28-amd64"));
	assert_null(doctor_criu_problem("4.1.1", "6.12.41+deb13-amd64"));
	assert_null(doctor_criu_problem("?", "6.18"));
}

static struct doctor example(void)
{
	struct doctor d = { 0 };
	doctor_add(&d, "kernel", DOCTOR_REQUIRED, true, "Linux %d", 6);
	doctor_remedy(&d.checks[0], "never said");
	doctor_remedy(doctor_add(&d, "disk", DOCTOR_ADVISED, false, "small\n"), "buy one");
	return d;
}

static char *print(const struct doctor *d, bool json)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	if (json)
		assert_int_equal(doctor_print_json(d, out), 0);
	else
		doctor_print(d, out);
	fclose(out);
	return text;
}

static void test_text(void **state)
{
	(void)state;
	struct doctor d = example();
	cleanup_free char *good = print(&d, false);
	assert_true(doctor_ok(&d));
	assert_string_equal(good, "ok       kernel         Linux 6\n"
				  "note     disk           small\n"
				  "                        -> buy one\n"
				  "\n"
				  "Sessions can be checkpointed on this machine.\n");
	doctor_add(&d, "criu", DOCTOR_REQUIRED, false, "none");
	cleanup_free char *bad = print(&d, false);
	assert_false(doctor_ok(&d));
	assert_non_null(strstr(bad, "MISSING  criu           none\n"));
	assert_non_null(strstr(bad, "cannot be checkpointed"));
}

static void test_json(void **state)
{
	(void)state;
	struct doctor d = example();
	cleanup_free char *text = print(&d, true);
	json_t *all = json_loads(text, 0, NULL);
	json_t *second = json_array_get(json_object_get(all, "checks"), 1);
	assert_true(json_is_true(json_object_get(all, "ok")));
	assert_string_equal(json_string_value(json_object_get(second, "name")), "disk");
	assert_string_equal(json_string_value(json_object_get(second, "level")), "advised");
	assert_true(json_is_false(json_object_get(second, "ok")));
	assert_string_equal(json_string_value(json_object_get(second, "text")), "small");
	assert_string_equal(json_string_value(json_object_get(second, "remedy")), "buy one");
	json_decref(all);
}

/* All of it, on this machine; in a child, since it leaves the namespaces it was in. What is found
 * is the machine's affair, but text and result must agree. */
static int run_here(const char *text)
{
	struct config *config = NULL;
	struct error e = ERROR_INIT;
	FILE *out = tmpfile();
	if (config_parse(text, strlen(text), "test", &config, &e) < 0 || !out)
		return 2;
	int r = doctor_run(config, true, out, &e);
	fseek(out, 0, SEEK_SET);
	json_t *all = json_loadf(out, 0, NULL);
	json_t *good = json_object_get(all, "ok");
	bool agrees = json_is_boolean(good) && json_is_true(good) == (r == 0) &&
		      (r == 0 || e.fault == FAULT_REFUSED);
	if (r < 0)
		print_message("%s\n", e.text);
	json_decref(all);
	fclose(out);
	config_free(config);
	return agrees ? 0 : 1;
}

/* ... and nothing may stay. */
static void test_here(void **state)
{
	(void)state;
	int status = 0;
	char top[] = "/tmp/elsa-doctor-XXXXXX";
	if (geteuid() != 0) {
		print_message("SKIPPED: needs root (run it by tools/enter)\n");
		skip();
	}
	assert_non_null(mkdtemp(top));
	/* CRIU's helpers run with the trial's user as the real one. */
	assert_int_equal(chmod(top, 0755), 0);
	cleanup_free char *text = str_printf("[node]\nstate_dir = \"%s/state\"\n"
					     "run_dir = \"%s/run\"\ncgroup = \"%s\"\n",
					     top, top, top + strlen("/tmp/"));
	cleanup_free char *search = str_printf("! find %s/*/* /sys/fs/cgroup -path '%s/*/*' -o "
					       "-path '*/%s*' 2>/dev/null | grep . >&2",
					       top, top, top + strlen("/tmp/"));
	const char *const argv[] = { "sh", "-c", search, NULL };
	struct error e = ERROR_INIT;
	pid_t pid = fork();
	if (pid == 0)
		_exit(run_here(text));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	if (job_check(&JOB_OPTIONS(.argv = argv), &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(fs_remove_tree(top, &e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_criu_problem),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_here),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

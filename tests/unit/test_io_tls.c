/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "http_world.h"
#include "io/job.h"

#include <signal.h>

/* openssl's own little web server; *port and the way to end it. */
struct tls_server {
	pid_t pid;
	FILE *said;
	int port;
};

static int make_certificate(struct world *w, const char *name)
{
	cleanup_free char *key = str_printf("%s/%s.key", w->dir, name);
	cleanup_free char *certificate = str_printf("%s/%s.pem", w->dir, name);
	struct job_options o =
		JOB_OPTIONS(.argv = (const char *const[]) {
				    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
				    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
				    "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
				    "-keyout", key, "-out", certificate, NULL });
	return job_check(&o, NULL);
}

static void serve_tls(struct world *w, struct tls_server *s)
{
	cleanup_free char *key = str_printf("%s/server.key", w->dir);
	cleanup_free char *certificate = str_printf("%s/server.pem", w->dir);
	int ends[2];
	char line[256];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	s->pid = fork();
	if (s->pid == 0) {
		dup2(ends[1], STDOUT_FILENO);
		dup2(ends[1], STDERR_FILENO);
		execlp("openssl", "openssl", "s_server", "-www", "-accept", "127.0.0.1:0", "-key",
		       key, "-cert", certificate, NULL);
		_exit(127);
	}
	close(ends[1]);
	s->said = fdopen(ends[0], "r");
	while (s->said && fgets(line, sizeof(line), s->said))
		if (sscanf(line, "ACCEPT 127.0.0.1:%d", &s->port) == 1)
			return;
	fail_msg("openssl s_server does not start");
}

static void get_tls(struct world *w, const struct tls_server *s, const char *trusted,
		    struct answer *a)
{
	cleanup_free char *file = str_printf("%s/%s", w->dir, trusted);
	snprintf(w->url, sizeof(w->url), "https://127.0.0.1:%d", s->port);
	call(w, (struct http_request) { .ca_file = file }, "/", a);
}

static void test_trust(void **state)
{
	struct world *w = *state;
	struct tls_server s = { 0 };
	if (make_certificate(w, "server") < 0)
		skip(); /* no openssl */
	assert_int_equal(make_certificate(w, "other"), 0);
	serve_tls(w, &s);
	cleanup_answer struct answer ours, other, missing, system;
	get_tls(w, &s, "server.pem", &ours);
	get_tls(w, &s, "other.pem", &other);
	get_tls(w, &s, "missing.pem", &missing);
	call(w, (struct http_request) { 0 }, "/", &system);
	assert_string_equal(ours.error.text, "");
	assert_int_equal(ours.status, 200);
	assert_int_equal(other.error.fault, FAULT_DENIED);
	assert_int_equal(missing.error.fault, FAULT_BAD_INPUT);
	assert_int_equal(system.error.fault, FAULT_DENIED);
	kill(s.pid, SIGKILL);
	waitpid(s.pid, NULL, 0);
	fclose(s.said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		world_test(test_trust),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

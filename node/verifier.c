/* SPDX-License-Identifier: Apache-2.0 */
#include "node/verifier.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct verifier {
	struct store_read *read;
	void (*progress)(uint64_t done, uint64_t total, void *arg);
	void *arg;
	pthread_t thread;
	bool joined;
	int result;
	struct error error;
};

static void *thread_main(void *arg)
{
	struct verifier *v = arg;
	v->result = store_read_verify(v->read, v->progress, v->arg, &v->error);
	return NULL;
}

int verifier_start(struct store_read *read,
		   void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg,
		   struct verifier **to, struct error *e)
{
	struct verifier *v = calloc(1, sizeof(*v));
	if (!v)
		return error_set(e, ENOMEM, "out of memory");
	*v = (struct verifier) { .read = read, .progress = progress, .arg = arg };
	int code = pthread_create(&v->thread, NULL, thread_main, v);
	if (code) {
		free(v);
		return error_set(e, code, "cannot start a thread: %s", strerror(code));
	}
	*to = v;
	return 0;
}

int verifier_wait(struct verifier *v, struct error *e)
{
	if (!v->joined)
		pthread_join(v->thread, NULL);
	v->joined = true;
	if (v->result < 0 && e)
		*e = v->error;
	return v->result;
}

void *verifier_free(struct verifier *v)
{
	if (!v)
		return NULL;
	verifier_wait(v, NULL);
	free(v);
	return NULL;
}

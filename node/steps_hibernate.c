/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/images.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

static int check(struct effect *ef, struct error *e)
{
	struct store *store;
	struct sandbox_usage usage;
	int64_t wanted = ef->request.generation, newest = 0;
	const char *id = ef->session->id;
	if (!session_alive(ef->node, ef->session))
		return error_set(e, ESRCH, "session %s does not run here", id);
	int r = sandbox_usage(&ef->sandbox, &usage, e);
	if (r == 0)
		r = node_store(ef->node, &store, e);
	if (r != 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.memory_bytes = usage.rss_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	r = store_newest(store, id, &newest, e);
	if (r < 0 && r != -ENOENT)
		return r;
	if (wanted <= newest || wanted <= effect_journal(ef)->generation)
		return error_set(e, EBUSY,
				 "generation %lld of session %s is not new: the store has %lld",
				 (long long)wanted, id, (long long)newest);
	return 0;
}

static int begin(struct effect *ef, struct error *e)
{
	struct store *store;
	struct store_write *write;
	int r = node_store(ef->node, &store, e);
	if (r == 0)
		r = store_write_begin(store, ef->session->id, ef->request.generation, &write, e);
	if (r == 0)
		effect_set_write(ef, write);
	return r;
}

static int drop_write(struct effect *ef, struct error *e)
{
	(void)e;
	effect_set_write(ef, NULL);
	return 0;
}

static int hold(struct effect *ef, struct error *e)
{
	return sandbox_hold(&ef->sandbox, e);
}

static int let_packets_go(struct effect *ef, struct error *e)
{
	return session_alive(ef->node, ef->session) ? sandbox_release(&ef->sandbox, e) : 0;
}

static void note_frozen(struct effect *ef)
{
	if (ef->frozen_since == 0)
		return;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.frozen_us = clock_mono() - ef->frozen_since;
	pthread_mutex_unlock(&ef->node->lock);
	ef->frozen_since = 0;
}

static int freeze(struct effect *ef, struct error *e)
{
	ef->frozen_since = clock_mono();
	return sandbox_freeze(&ef->sandbox, e);
}

static int thaw(struct effect *ef, struct error *e)
{
	int r = session_alive(ef->node, ef->session) ? sandbox_thaw(&ef->sandbox, e) : 0;
	note_frozen(ef);
	return r;
}

static int dump(struct effect *ef, struct error *e)
{
	struct criu_options options;
	cleanup_free char *images = fs_join(store_write_dir(ef->write), "criu");
	if (!images)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_mkdirs(images, 0700, e);
	effect_criu_options(ef, &options);
	options.images = images;
	if (r == 0)
		r = criu_dump(&ef->sandbox, (pid_t)effect_journal(ef)->pid, &options, &ef->dump,
			      &ef->log_tail, e);
	if (r == 0)
		r = images_keep(store_write_dir(ef->write), &ef->request.session, e);
	return r;
}

static int abandon_dump(struct effect *ef, struct error *e)
{
	ef->dump = criu_dump_abandon(ef->dump);
	int r = criu_end_orphans(ef->work, (int)ef->node->config->node.effect_timeout_ms, e);
	criu_mend(&ef->sandbox);
	return r;
}

static int save_layers(struct effect *ef, struct error *e)
{
	cleanup_free char *file = fs_join(store_write_dir(ef->write), "upper.tar");
	if (!file)
		return error_set(e, ENOMEM, "out of memory");
	return layers_save(ef->sandbox.upper, file, (int)ef->node->config->node.effect_timeout_ms,
			   e);
}

/* --- commit ------------------------------------------------------------------- */

static int fill_meta(struct effect *ef, struct store_meta *meta, struct error *e)
{
	const struct session_spec *spec = &ef->request.session;
	struct utsname kernel;
	cleanup_json json_t *json = wire_encode(&wire_session_spec, spec);
	uname(&kernel);
	*meta = (struct store_meta) {
		.generation = ef->request.generation,
		.created_at = clock_wall(),
		.memory_bytes = ef->result.memory_bytes,
		.user = strdup(spec->user),
		.server = strdup(spec->server),
		.spec = json ? json_dumps(json, JSON_COMPACT) : NULL,
		.cpu = strdup(ef->node->cpu),
		.criu = strdup(ef->node->criu.version),
		.kernel = strdup(kernel.release),
	};
	snprintf(meta->session, sizeof(meta->session), "%s", spec->id);
	if (meta->user && meta->server && meta->spec && meta->cpu && meta->criu && meta->kernel)
		return 0;
	return error_set(e, ENOMEM, "out of memory");
}

static int commit(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	cleanup(store_meta_deinit) struct store_meta meta = { 0 };
	bool all = strcmp(ef->node->config->store.verify, "all") == 0;
	int r = fill_meta(ef, &meta, e);
	if (r < 0)
		return r;
	/* By this the manifest is known as ours after a crash. */
	pthread_mutex_lock(&ef->node->lock);
	j->created_at = meta.created_at;
	pthread_mutex_unlock(&ef->node->lock);
	r = journal_save(ef->node, j, e);
	if (r == 0)
		r = store_write_commit(ef->write, &meta,
				       all ? STORE_VERIFY_ALL : STORE_VERIFY_SAMPLE, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.stored_bytes = meta.stored_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

/* The moment of truth is behind us: from here on the session is the checkpoint. */
static int let_go(struct effect *ef, struct error *e)
{
	pthread_mutex_lock(&ef->node->lock);
	effect_journal(ef)->generation = ef->request.generation;
	pthread_mutex_unlock(&ef->node->lock);
	if (ef->recovering)
		criu_kill_orphans(ef->work);
	ef->dump = criu_dump_keep(ef->dump);
	int r = steps_kill(ef, e);
	note_frozen(ef);
	return r;
}

static int teardown(struct effect *ef, struct error *e)
{
	effect_set_write(ef, NULL);
	int r = steps_teardown(ef, e);
	return r < 0 ? r : fs_remove_tree(ef->work, e);
}

/* --- old generations ------------------------------------------------------------ */

struct generations {
	int64_t keep;
	int64_t *items; /* newest first */
	size_t count;
	bool failed;
};

static int newest_first(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x < y) - (x > y);
}

static int note_generation(const struct store_meta *meta, void *arg)
{
	struct generations *g = arg;
	if (meta->aside)
		return 0;
	int64_t *more = realloc(g->items, (g->count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	g->items = more;
	g->items[g->count++] = meta->generation;
	return 0;
}

static int remove_old(struct effect *ef, struct error *e)
{
	struct store *store;
	struct generations g = { .keep = ef->node->config->store.keep };
	const char *id = ef->session->id;
	int r = node_store(ef->node, &store, e);
	if (r == 0)
		r = store_list(store, id, note_generation, &g, e);
	if (r == 0 && g.count)
		qsort(g.items, g.count, sizeof(*g.items), newest_first);
	for (size_t i = (size_t)g.keep; r == 0 && i < g.count; i++)
		r = store_remove(store, id, g.items[i], e);
	free(g.items);
	return r;
}

/* Whether the checkpoint that the journal was about to commit is there: 1, 0, or -EAGAIN. A store
 * that does not answer is no reason to wake a session that may be whole in it. */
static int is_committed(struct effect *ef, struct error *e)
{
	struct store *store;
	struct store_read *read = NULL;
	const struct journal *j = effect_journal(ef);
	if (j->created_at == 0)
		return 0;
	int r = node_store(ef->node, &store, e);
	if (r == 0)
		r = store_read_open(store, ef->session->id, ef->request.generation, &read, e);
	if (r < 0)
		return r == -ENOENT ? 0 : -EAGAIN;
	bool ours = store_read_meta(read)->created_at == j->created_at;
	store_read_free(read);
	return ours;
}

static int resume(struct effect *ef, size_t at, struct error *e)
{
	size_t behind = plan_step(&plan_hibernate, "kill");
	if (at + 1 < behind)
		return -1;
	/* Once the journal is behind the commit, only a hand from outside can have removed it. */
	int r = is_committed(ef, e);
	if (r == 0 && at >= behind && !session_alive(ef->node, ef->session))
		return (int)at;
	if (r <= 0)
		return r == 0 ? -1 : r;
	return (int)(at > behind ? at : behind);
}

static const struct step steps[] = {
	{ .name = "check", .run = check },
	{ .name = "begin", .run = begin, .undo = drop_write },
	{ .name = "freeze", .run = freeze, .undo = thaw },
	{ .name = "hold", .run = hold, .undo = let_packets_go },
	{ .name = "dump", .run = dump, .undo = abandon_dump },
	{ .name = "layers", .run = save_layers },
	{ .name = "commit", .run = commit },
	{ .name = "kill", .run = let_go, .must = true },
	{ .name = "teardown", .run = teardown },
	{ .name = "retention", .run = remove_old },
};

const struct plan plan_hibernate = {
	.name = "hibernate",
	.steps = steps,
	.count = ARRAY_SIZE(steps),
	.commit = 7,
	.resume = resume,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "node/steps_checkpoint.h"

#include "base/cleanup.h"
#include "base/fs.h"
#include "node/arrival.h"
#include "node/doze.h"
#include "node/evacuate.h"
#include "node/hold.h"
#include "node/images.h"
#include "node/layers.h"
#include "node/page_sink.h"
#include "node/pages.h"
#include "node/sockets.h"
#include "node/working_set.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static int64_t newer(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/*
 * A fence, or a checkpoint, that came after the session did: another node has it now, or may, and
 * what is here must not get ahead of it. elsad gives out no number above a fence but to the node
 * whose session it is; so that need be asked only of numbers of our own, and while elsad has not
 * said whose it is.
 */
static bool may_be_anothers(struct effect *ef)
{
	return evacuate_is_effect(ef->request.id) || hold_has(ef->node, ef->session, HOLD_LEASE);
}

static int check_ours(const struct journal *j, const struct store_numbers *n, struct error *e)
{
	int64_t known = newer(j->generation, j->fence);
	if (n->fence > known)
		return error_fault(e, FAULT_CONFLICT,
				   "session %s was fenced at %lld: another node may have it, and "
				   "what is here is not stored any more",
				   j->session.id, (long long)n->fence);
	if (n->checkpoint > newer(known, j->tried))
		return error_fault(e, FAULT_CONFLICT,
				   "checkpoint %lld of session %s, newer than what is here, was "
				   "stored elsewhere",
				   (long long)n->checkpoint, j->session.id);
	return 0;
}

static int check_number(struct effect *ef, struct store *store, struct error *e)
{
	struct store_numbers n;
	const struct journal *j = effect_journal(ef);
	int64_t wanted = ef->request.generation;
	int r = store_numbers(store, ef->session->id, &n, e);
	if (r == 0 && may_be_anothers(ef))
		r = check_ours(j, &n, e);
	if (r == 0 && (wanted <= n.used || wanted <= j->generation))
		r = error_set(e, EBUSY,
			      "generation %lld of session %s is not new: the store has %lld",
			      (long long)wanted, ef->session->id, (long long)newer(n.used, 0));
	return r;
}

static int note_memory(struct effect *ef, struct error *e)
{
	struct sandbox_usage usage;
	int r = sandbox_usage(&ef->sandbox, &usage, e);
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.memory_bytes = usage.rss_bytes + usage.out_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

int checkpoint_check(struct effect *ef, struct error *e)
{
	struct store *store;
	const char *id = ef->session->id;
	if (!session_alive(ef->node, ef->session))
		return error_set(e, ESRCH, "session %s does not run here", id);
	int r = note_memory(ef, e);
	if (r == 0)
		r = node_store(ef->node, &store, e);
	return r < 0 ? r : check_number(ef, store, e);
}

/* What the last wake wanted first is stored close together for the next one. Without it, or with
 * one that is damaged, the next wake is slower and nothing else. */
static int note_working_set(struct effect *ef, struct error *e)
{
	struct working_set *list;
	size_t count;
	int r = 0;
	cleanup_free char *dir = node_path(ef->node, "pages", ef->session->id, "");
	if (!dir || working_set_load(dir, &list, &count, NULL) < 0)
		return 0;
	for (size_t i = 0; r == 0 && i < count; i++)
		r = store_write_hot(ef->write, list[i].memory, list[i].pages, list[i].count, e);
	working_set_free(list, count);
	return r;
}

static int write_working_set(struct effect *ef, struct error *e)
{
	cleanup_free char *dir = arrival_dir(ef->node, ef->session->id);
	cleanup_free char *path = dir ? fs_join(dir, WORKING_SET_FILE) : NULL;
	cleanup_fd int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	return fd < 0 ? 0 : store_write_file(ef->write, WORKING_SET_FILE, 0600, fd, e);
}

int checkpoint_begin(struct effect *ef, struct error *e)
{
	struct store *store;
	struct store_write *write = NULL;
	/* What was missing of it at the check is here now: it will need that much when it wakes. */
	int r = note_memory(ef, e);
	if (r == 0)
		r = node_store(ef->node, &store, e);
	if (r == 0)
		r = store_write_begin(store, ef->session->id, ef->request.generation, &write, e);
	if (r < 0)
		return r;
	effect_set_write(ef, write);
	return note_working_set(ef, e);
}

int checkpoint_drop(struct effect *ef, struct error *e)
{
	(void)e;
	effect_set_write(ef, NULL);
	return 0;
}

/* --- standing still ------------------------------------------------------------- */

int checkpoint_hold(struct effect *ef, struct error *e)
{
	return sandbox_hold(&ef->sandbox, e);
}

int checkpoint_release(struct effect *ef, struct error *e)
{
	return session_alive(ef->node, ef->session) ? sandbox_release(&ef->sandbox, e) : 0;
}

void checkpoint_note_frozen(struct effect *ef)
{
	if (ef->frozen_since == 0)
		return;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.frozen_us = clock_mono() - ef->frozen_since;
	pthread_mutex_unlock(&ef->node->lock);
	ef->frozen_since = 0;
}

int checkpoint_freeze(struct effect *ef, struct error *e)
{
	ef->frozen_since = clock_mono();
	hold_own(ef->node, ef->session);
	int r = sandbox_freeze(&ef->sandbox, e);
	if (r == 0)
		sandbox_ease(&ef->sandbox, &effect_journal(ef)->session.limits, true);
	return r;
}

int checkpoint_thaw(struct effect *ef, struct error *e)
{
	sandbox_ease(&ef->sandbox, &effect_journal(ef)->session.limits, false);
	int r = session_alive(ef->node, ef->session) ? hold_settle(ef->node, ef->session, e) : 0;
	checkpoint_note_frozen(ef);
	doze_page_out_again(ef);
	return r;
}

/* --- what there is of the session ------------------------------------------------- */

static int make_images_dir(struct effect *ef, char **images, struct error *e)
{
	*images = fs_join(ef->images, "criu");
	if (!*images)
		return error_set(e, ENOMEM, "out of memory");
	int r = fs_remove_tree(ef->images, e);
	if (r == 0)
		r = fs_mkdirs(ef->images, 0700, e);
	return r < 0 ? r : fs_mkdirs(*images, 0700, e);
}

/* When the store has failed, CRIU knows only that something has. */
static int end_sink(struct page_sink *sink, int dumped, struct error *e)
{
	struct error stored = ERROR_INIT;
	int r = page_sink_wait(sink, &stored);
	page_sink_free(sink);
	if (r == 0 || (dumped < 0 && r == -EPIPE))
		return dumped;
	*e = stored;
	return error_wrap(e, r, "cannot store the session's memory");
}

static void give_up(void *sink)
{
	page_sink_give_up(sink);
}

static int run_dump(struct effect *ef, struct criu_options *options, struct error *e)
{
	struct page_sink *sink;
	struct error own = ERROR_INIT;
	int r = page_sink_start(ef->write, &sink, &options->page_socket, e);
	if (r < 0)
		return r;
	options->give_up = give_up;
	options->arg = sink;
	r = criu_dump(&ef->sandbox, (pid_t)effect_journal(ef)->pid, options, &ef->dump,
		      &ef->log_tail, &own);
	r = end_sink(sink, r, &own);
	if (r < 0 && e)
		*e = own;
	return r;
}

int checkpoint_dump(struct effect *ef, struct error *e)
{
	struct criu_options options;
	cleanup_free char *images = NULL;
	int r = make_images_dir(ef, &images, e);
	effect_criu_options(ef, &options);
	options.images = images;
	if (r == 0)
		r = run_dump(ef, &options, e);
	return r < 0 ? r : images_keep(ef->images, &ef->request.session, ef->links, e);
}

int checkpoint_abandon_dump(struct effect *ef, struct error *e)
{
	ef->dump = criu_dump_abandon(ef->dump);
	int r = criu_end_orphans(ef->work, (int)ef->node->config->node.effect_timeout_ms, e);
	sockets_end_repair(&ef->sandbox.cgroup); /* for one that was killed */
	unlink(ef->links);                       /* CRIU has taken them away again */
	return r < 0 ? r : fs_remove_tree(ef->images, e);
}

int checkpoint_layers(struct effect *ef, struct error *e)
{
	return layers_save(ef->sandbox.upper, ef->write,
			   (int)ef->node->config->node.effect_timeout_ms, e);
}

static int write_tree(struct effect *ef, const char *name, struct error *e)
{
	cleanup_free char *dir = fs_join(ef->images, name);
	if (!dir)
		return error_set(e, ENOMEM, "out of memory");
	return access(dir, F_OK) < 0 ? 0 : store_write_tree(ef->write, name, dir, e);
}

int checkpoint_images(struct effect *ef, struct error *e)
{
	int r = write_working_set(ef, e);
	if (r == 0)
		r = write_tree(ef, "criu", e);
	return r < 0 ? r : write_tree(ef, "remap", e);
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

int checkpoint_commit(struct effect *ef, struct error *e)
{
	struct journal *j = effect_journal(ef);
	cleanup(store_meta_deinit) struct store_meta meta = { 0 };
	bool all = strcmp(ef->node->config->store.verify, "all") == 0;
	int r = fill_meta(ef, &meta, e);
	if (r < 0)
		return r;
	/* By this the manifest is known as ours after a crash. */
	int64_t tried = j->tried;
	pthread_mutex_lock(&ef->node->lock);
	j->created_at = meta.created_at;
	j->tried = ef->request.generation;
	pthread_mutex_unlock(&ef->node->lock);
	r = journal_save(ef->node, j, e);
	if (r == 0)
		r = store_write_commit(ef->write, &meta,
				       all ? STORE_VERIFY_ALL : STORE_VERIFY_SAMPLE, e);
	if (r == -EEXIST) { /* somebody else's */
		pthread_mutex_lock(&ef->node->lock);
		j->tried = tried;
		pthread_mutex_unlock(&ef->node->lock);
	}
	if (r < 0)
		return r;
	pthread_mutex_lock(&ef->node->lock);
	ef->result.stored_bytes = meta.stored_bytes;
	pthread_mutex_unlock(&ef->node->lock);
	return 0;
}

int checkpoint_is_committed(struct effect *ef, struct error *e)
{
	struct store *store;
	struct store_read *read = NULL;
	const struct journal *j = effect_journal(ef);
	if (j->created_at == 0)
		return 0;
	/* "Not found" is an answer of a store that could be opened; of one that could not it may be
	 * a directory that is not mounted. */
	if (node_store(ef->node, &store, e) < 0)
		return -EAGAIN;
	int r = store_read_open(store, ef->session->id, ef->request.generation, &read, e);
	if (r < 0)
		return r == -ENOENT ? 0 : -EAGAIN;
	bool ours = store_read_meta(read)->created_at == j->created_at;
	store_read_free(read);
	return ours;
}

void checkpoint_note_generation(struct effect *ef)
{
	pthread_mutex_lock(&ef->node->lock);
	effect_journal(ef)->generation = ef->request.generation;
	pthread_mutex_unlock(&ef->node->lock);
}

int checkpoint_tidy(struct effect *ef, struct error *e)
{
	effect_set_write(ef, NULL);
	int r = fs_remove_tree(ef->images, e);
	return r < 0 ? r : fs_remove_tree(ef->work, e);
}

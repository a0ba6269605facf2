/* SPDX-License-Identifier: Apache-2.0 */
#include "store/key.h"

#include "base/cleanup.h"
#include "base/id.h"
#include "store/master.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { OBJECT_NAME = 64, LOOKS = 10 };

struct master {
	struct seal_key key;
	char name[SEAL_NAME];
};

struct session_key {
	struct session_key *next;
	char session[ID_SIZE];
	struct seal_key key;
};

struct keyring {
	struct object_store *objects; /* borrowed */
	struct master *masters;       /* the present one first */
	size_t master_count;
	pthread_mutex_t lock; /* of what follows */
	struct session_key *known;
};

DEFINE_CLEANUP(struct keyring *, keyring_free)

static void wipe_key(struct seal_key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}

static int load_masters(struct keyring *k, const struct store_options *options, struct error *e)
{
	const char *const *old = options->old_key_files;
	size_t count = 1;
	for (; old && old[count - 1]; count++)
		;
	k->masters = calloc(count, sizeof(*k->masters));
	if (!k->masters)
		return error_set(e, ENOMEM, "out of memory");
	k->master_count = count;
	int r = master_load(options, k->objects, &k->masters[0].key, e);
	for (size_t i = 1; i < count && r == 0; i++) {
		r = master_load_file(old[i - 1], &k->masters[i].key, e);
		if (r < 0)
			error_wrap(e, r, "store.old_key_files");
	}
	for (size_t i = 0; i < count && r == 0; i++)
		seal_key_name(&k->masters[i].key, k->masters[i].name);
	return r;
}

int keyring_open(const struct store_options *options, struct object_store *objects,
		 struct keyring **keyring, struct error *e)
{
	*keyring = NULL;
	cleanup(keyring_freep) struct keyring *k = calloc(1, sizeof(*k));
	if (!k)
		return error_set(e, ENOMEM, "out of memory");
	pthread_mutex_init(&k->lock, NULL);
	k->objects = objects;
	int r = load_masters(k, options, e);
	if (r == 0)
		*keyring = steal_ptr(&k);
	return r;
}

static void free_session_key(struct session_key *key)
{
	wipe_key(&key->key);
	free(key);
}

void *keyring_free(struct keyring *k)
{
	if (!k)
		return NULL;
	while (k->known) {
		struct session_key *next = k->known->next;
		free_session_key(k->known);
		k->known = next;
	}
	if (k->masters)
		OPENSSL_cleanse(k->masters, k->master_count * sizeof(*k->masters));
	free(k->masters);
	pthread_mutex_destroy(&k->lock);
	free(k);
	return NULL;
}

/* --- known ones ------------------------------------------------------------------------ */

/* Where the session's is linked in, or NULL is. */
static struct session_key **place_of(struct keyring *k, const char *session)
{
	struct session_key **place = &k->known;
	while (*place && strcmp((*place)->session, session) != 0)
		place = &(*place)->next;
	return place;
}

static bool recall(struct keyring *k, const char *session, struct seal_key *key)
{
	pthread_mutex_lock(&k->lock);
	struct session_key *known = *place_of(k, session);
	if (known)
		*key = known->key;
	pthread_mutex_unlock(&k->lock);
	return known;
}

/* Without memory it is read from the store again the next time. */
static void remember(struct keyring *k, const char *session, const struct seal_key *key)
{
	pthread_mutex_lock(&k->lock);
	struct session_key **place = place_of(k, session);
	if (!*place && (*place = calloc(1, sizeof(**place))))
		snprintf((*place)->session, ID_SIZE, "%s", session);
	if (*place)
		(*place)->key = *key;
	pthread_mutex_unlock(&k->lock);
}

void keyring_forget(struct keyring *k, const char *session)
{
	pthread_mutex_lock(&k->lock);
	struct session_key **place = place_of(k, session);
	struct session_key *known = *place;
	if (known) {
		*place = known->next;
		free_session_key(known);
	}
	pthread_mutex_unlock(&k->lock);
}

/* --- in the store ---------------------------------------------------------------------- */

static void object_of(const char *session, const struct master *master, char name[OBJECT_NAME])
{
	snprintf(name, OBJECT_NAME, "s/%s/key-%s", session, master->name);
}

/* -ENOENT; -EKEYREJECTED when the object is not a key that this master wrapped for this session. */
static int read_wrapped_once(struct keyring *k, const char *session, const struct master *master,
			     struct seal_key *key, struct error *e)
{
	unsigned char wrapped[SEAL_WRAPPED];
	char name[OBJECT_NAME];
	object_of(session, master, name);
	int r = object_read(k->objects, name, 0, wrapped, sizeof(wrapped), e);
	if (r == -EBADMSG)
		return error_set(e, EKEYREJECTED, "object %s: too short for a key", name);
	if (r < 0)
		return r;
	r = seal_unwrap(&master->key, session, wrapped, key, e);
	return r < 0 ? error_wrap(e, r, "object %s", name) : 0;
}

/* What arrives wrong may be the network's fault the first time. */
static int read_wrapped(struct keyring *k, const char *session, const struct master *master,
			struct seal_key *key, struct error *e)
{
	int r = read_wrapped_once(k, session, master, key, e);
	if (r != -EKEYREJECTED)
		return r;
	error_clear(e);
	return read_wrapped_once(k, session, master, key, e);
}

/* 0 or -EEXIST when somebody else was quicker. */
static int put_wrapped(struct keyring *k, const char *session, const struct seal_key *key,
		       struct error *e)
{
	unsigned char wrapped[SEAL_WRAPPED];
	char name[OBJECT_NAME];
	object_of(session, &k->masters[0], name);
	int r = seal_wrap(&k->masters[0].key, session, key, wrapped, e);
	return r < 0 ? r : object_put(k->objects, name, wrapped, sizeof(wrapped), true, e);
}

struct wrapped_by {
	const struct keyring *keyring;
	char strangers[256]; /* names of master keys we have not, with commas */
	bool us;
};

static int note_wrapped(const char *object, const struct object_stat *st, void *arg)
{
	struct wrapped_by *by = arg;
	const char *master = master_of_object(object);
	size_t used = strlen(by->strangers);
	(void)st;
	if (!master)
		return 0;
	for (size_t i = 0; i < by->keyring->master_count; i++)
		if (strcmp(master, by->keyring->masters[i].name) == 0) {
			by->us = true;
			return 0;
		}
	snprintf(by->strangers + used, sizeof(by->strangers) - used, "%s%.*s", used ? ", " : "",
		 SEAL_NAME - 1, master);
	return 0;
}

/* No object of our masters was found. -ENOENT when there is no other either; 1 when one of ours is
 * there now, so that it is worth looking again. */
static int look_for_others(struct keyring *k, const char *session, struct error *e)
{
	struct wrapped_by by = { .keyring = k };
	char prefix[OBJECT_NAME], known[256] = "";
	snprintf(prefix, sizeof(prefix), "s/%s/", session);
	int r = object_list(k->objects, prefix, note_wrapped, &by, e);
	if (r < 0 || by.us)
		return r < 0 ? r : 1;
	if (!by.strangers[0])
		return error_set(e, ENOENT, "session %s has no key in the store", session);
	for (size_t i = 0, used = 0; i < k->master_count && used < sizeof(known); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
					 k->masters[i].name);
	r = error_set(e, EKEYREJECTED,
		      "session %s was written with master key %s, and this node has only %s",
		      session, by.strangers, known);
	return error_remedy(e, r,
			    "give the node that key as store.key_file, or add its file to "
			    "store.old_key_files");
}

/* By the first master that has wrapped it: -ENOENT when none has. An object that is damaged does no
 * harm as long as there is another. */
static int try_masters(struct keyring *k, const char *session, struct seal_key *key,
		       struct error *e)
{
	struct error first = ERROR_INIT;
	int answer = -ENOENT;
	for (size_t i = 0; i < k->master_count; i++) {
		struct error now = ERROR_INIT;
		int r = read_wrapped(k, session, &k->masters[i], key, &now);
		if (r == 0)
			return 0;
		if (r == -ENOENT || answer != -ENOENT)
			continue;
		answer = r;
		first = now;
		if (r != -EKEYREJECTED)
			break;
	}
	if (e)
		*e = first;
	if (answer == -EKEYREJECTED)
		error_remedy(e, answer,
			     "the object was damaged or replaced: put it back from a copy of the "
			     "store");
	return answer;
}

/* -ENOENT when there is none at all. One may be made, or wrapped anew, while we look. */
static int find_key(struct keyring *k, const char *session, struct seal_key *key, struct error *e)
{
	int r = 1;
	for (int tries = 0; tries < LOOKS && r == 1; tries++) {
		r = try_masters(k, session, key, e);
		if (r == -ENOENT)
			r = look_for_others(k, session, e);
	}
	return r == 1 ? error_set(e, EAGAIN, "the key of session %s comes and goes", session) : r;
}

static int make_key(struct keyring *k, const char *session, struct seal_key *key, struct error *e)
{
	int r = seal_random(key->bytes, SEAL_KEY, e);
	if (r == 0)
		r = put_wrapped(k, session, key, e);
	if (r != -EEXIST)
		return r;
	error_clear(e);
	return read_wrapped(k, session, &k->masters[0], key, e);
}

static int check_session(const char *session, struct error *e)
{
	return id_valid(session) ? 0 : error_set(e, EINVAL, "that is not the id of a session");
}

int keyring_session(struct keyring *k, const char *session, bool make, struct seal_key *key,
		    struct error *e)
{
	int r = check_session(session, e);
	if (r < 0)
		return r;
	/* Nothing may be written under a key that is not in the store any more. */
	if (!make && recall(k, session, key))
		return 0;
	r = find_key(k, session, key, e);
	if (r == -ENOENT && make) {
		error_clear(e);
		r = make_key(k, session, key, e);
	}
	if (r == 0)
		remember(k, session, key);
	else
		wipe_key(key);
	return r;
}

/* --- rotation -------------------------------------------------------------------------- */

static bool same_key(const struct seal_key *a, const struct seal_key *b)
{
	return CRYPTO_memcmp(a->bytes, b->bytes, SEAL_KEY) == 0;
}

/* Wrapped by the present master, and read back, so that the older ones can go. 1 if that was done.
 */
static int wrap_anew(struct keyring *k, const char *session, const struct seal_key *key,
		     struct error *e)
{
	struct seal_key found;
	int r = put_wrapped(k, session, key, e);
	bool done = r == 0;
	if (r < 0 && r != -EEXIST)
		return r;
	error_clear(e);
	r = read_wrapped(k, session, &k->masters[0], &found, e);
	if (r == 0 && !same_key(key, &found))
		r = error_set(e, EKEYREJECTED, "session %s has two different keys in the store",
			      session);
	wipe_key(&found);
	return r < 0 ? r : done;
}

/* Only what is known to be the same key under another wrapping. */
static int remove_older(struct keyring *k, const char *session, const struct seal_key *key,
			const struct master *old, struct error *e)
{
	struct seal_key found;
	char name[OBJECT_NAME];
	object_of(session, old, name);
	if (strcmp(old->name, k->masters[0].name) == 0)
		return 0;
	int r = read_wrapped(k, session, old, &found, e);
	if (r == -ENOENT) {
		error_clear(e);
		return 0;
	}
	if (r == 0 && !same_key(key, &found))
		r = error_set(e, EKEYREJECTED, "object %s: a different key than the session's",
			      name);
	wipe_key(&found);
	return r < 0 ? r : object_remove(k->objects, name, e);
}

int keyring_rewrap(struct keyring *k, const char *session, struct error *e)
{
	struct seal_key key;
	int r = check_session(session, e);
	if (r == 0)
		r = find_key(k, session, &key, e);
	if (r < 0)
		return r;
	int done = wrap_anew(k, session, &key, e);
	r = done < 0 ? done : 0;
	for (size_t i = 1; i < k->master_count && r == 0; i++)
		r = remove_older(k, session, &key, &k->masters[i], e);
	wipe_key(&key);
	return r < 0 ? r : done;
}

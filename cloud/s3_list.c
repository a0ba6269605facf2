/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/s3.h"

#include <errno.h>
#include <string.h>

/* One page of a listing. It is collected before anybody sees it: a page that breaks off is asked
 * for again, and nobody may get an entry twice. */
struct page {
	struct s3_xml *xml;
	struct s3_entry *entries; /* their keys are ours */
	size_t count, room;
	size_t skip; /* length of the store's prefix */
};

static void page_empty(struct page *p)
{
	for (size_t i = 0; i < p->count; i++)
		free((char *)p->entries[i].key);
	p->count = 0;
	p->xml = s3_xml_free(p->xml);
}

static void page_deinit(struct page *p)
{
	page_empty(p);
	free(p->entries);
}

static int add_entry(const struct s3_entry *entry, void *arg)
{
	struct page *p = arg;
	/* Somebody else's objects may be in the bucket. */
	if (strlen(entry->key) <= p->skip || !object_key_valid(entry->key + p->skip))
		return 0;
	if (p->count == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		struct s3_entry *entries = realloc(p->entries, room * sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		p->entries = entries;
		p->room = room;
	}
	p->entries[p->count] = *entry;
	p->entries[p->count].key = strdup(entry->key + p->skip);
	return p->entries[p->count].key ? (p->count++, 0) : -ENOMEM;
}

static void before_page(struct s3_call *c)
{
	struct page *p = c->arg;
	page_empty(p);
	p->xml = s3_xml_new(add_entry, p);
}

static int page_data(const char *data, size_t len, void *arg)
{
	struct page *p = arg;
	return p->xml ? s3_xml_feed(p->xml, data, len) : -ENOMEM;
}

static int get_page(struct s3 *s, const char *prefix, const char *token, struct page *p,
		    struct error *e)
{
	struct s3_call c = { .doing = "list",
			     .action = "s3:ListBucket",
			     .method = "GET",
			     .before = before_page,
			     .on_data = page_data,
			     .arg = p };
	s3_call_query(&c, "list-type", "2");
	s3_call_query(&c, "prefix", prefix);
	if (*token)
		s3_call_query(&c, "continuation-token", token);
	int r = s3_call(s, &c, e);
	s3_call_deinit(&c);
	return r;
}

/* What a proxy or a wrong server answered, or a page without its end. */
static bool page_good(const struct page *p)
{
	return p->xml && s3_xml_end(p->xml) == 0 &&
	       strcmp(s3_xml_answer(p->xml)->root, "ListBucketResult") == 0 &&
	       (!s3_xml_answer(p->xml)->truncated || s3_xml_answer(p->xml)->token[0]);
}

static int hand_on(const struct page *p,
		   int (*each)(const char *key, const struct object_stat *st, void *arg), void *arg)
{
	int r = 0;
	for (size_t i = 0; i < p->count && r == 0; i++) {
		struct object_stat st = { .size = p->entries[i].size,
					  .modified_at = p->entries[i].modified_at };
		r = each(p->entries[i].key, &st, arg);
	}
	return r;
}

int s3_list(struct object_store *store, const char *prefix,
	    int (*each)(const char *key, const struct object_stat *st, void *arg), void *arg,
	    struct error *e)
{
	struct s3 *s = (struct s3 *)store;
	cleanup(page_deinit) struct page p = { .skip = strlen(s->url.prefix) };
	cleanup_free char *full = str_printf("%s%s", s->url.prefix, prefix);
	cleanup_free char *token = strdup("");
	int r = 0;
	bool more = true;
	while (full && token && r == 0 && more) {
		r = get_page(s, full, token, &p, e);
		if (r == 0 && !page_good(&p))
			r = error_set(e, EBADMSG, "bucket %s: its listing cannot be read",
				      s->url.bucket);
		if (r < 0)
			return r == -ENOENT ? -EIO : r;
		more = s3_xml_answer(p.xml)->truncated;
		free(token);
		token = strdup(s3_xml_answer(p.xml)->token);
		r = hand_on(&p, each, arg);
	}
	return full && token ? r : error_set(e, ENOMEM, "out of memory");
}

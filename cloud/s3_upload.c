/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
/*
 * Files into objects: small ones by one PUT each, large ones in parts, all of
 * them by several threads at once. Nothing is read into memory as a whole.
 * Parts of an upload that fails are taken back (AbortMultipartUpload); those of
 * a crash stay until a rule of the bucket removes them.
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "cloud/s3.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

enum { THREADS = 6, PARTS_MOST = 10000, MIB = 1024 * 1024, BODY_MOST = 4 * MIB };

struct part {
	char etag[128];
};

struct upload_file {
	const struct object_file *file;
	uint64_t size, part_size;
	size_t count;       /* parts; 0: one PUT */
	struct part *parts; /* owned */
	char *id;           /* owned; NULL: not begun, or ended */
};

struct job {
	struct upload_file *file;
	size_t part; /* from 0 */
};

struct upload {
	struct s3 *s;
	struct upload_file *files;
	size_t file_count;
	struct job *jobs;
	size_t job_count;
	pthread_mutex_t lock; /* of what follows */
	size_t next;
	int result;
	struct error *e;
	atomic_bool stop;
};

static int fail_memory(struct error *e)
{
	return error_set(e, ENOMEM, "out of memory");
}

static void plan_file(const struct s3 *s, struct upload_file *f)
{
	uint64_t least = (f->size + PARTS_MOST - 1) / PARTS_MOST;
	f->part_size = s->url.part_bytes;
	if (f->part_size < least)
		f->part_size = (least + MIB - 1) / MIB * MIB;
	if (f->size > f->part_size)
		f->count = (size_t)((f->size + f->part_size - 1) / f->part_size);
}

static int plan(struct upload *u, const struct object_file *files, size_t count, struct error *e)
{
	u->files = calloc(count, sizeof(*u->files));
	if (!u->files)
		return fail_memory(e);
	u->file_count = count;
	for (size_t i = 0; i < count; i++) {
		struct stat st;
		struct upload_file *f = &u->files[i];
		f->file = &files[i];
		if (stat(files[i].path, &st) < 0)
			return error_errno(e, "object %s: cannot look at %s", files[i].key,
					   files[i].path);
		f->size = (uint64_t)st.st_size;
		plan_file(u->s, f);
		if (f->count && !(f->parts = calloc(f->count, sizeof(*f->parts))))
			return fail_memory(e);
		u->job_count += f->count ? f->count : 1;
	}
	u->jobs = calloc(u->job_count, sizeof(*u->jobs));
	if (!u->jobs)
		return fail_memory(e);
	struct job *job = u->jobs;
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < (u->files[i].count ? u->files[i].count : 1); k++)
			*job++ = (struct job) { &u->files[i], k };
	return 0;
}

static int begin_parts(struct s3 *s, struct upload_file *f, struct error *e)
{
	struct s3_answer answer;
	struct s3_call c = { .doing = "begin an upload",
			     .action = "s3:PutObject",
			     .method = "POST",
			     .key = f->file->key };
	s3_call_query(&c, "uploads", "");
	c.body = &(struct s3_body) { .data = "", .fd = -1 };
	int r = s3_call(s, &c, e);
	if (r == 0 &&
	    (s3_xml_read(buf_text(&c.x.text), c.x.text.len, &answer) < 0 || !answer.upload_id[0]))
		r = error_set(e, EIO,
			      "object %s: cannot begin an upload: the answer cannot be read",
			      f->file->key);
	s3_call_deinit(&c);
	if (r < 0)
		return r;
	f->id = strdup(answer.upload_id);
	return f->id ? 0 : fail_memory(e);
}

static void abort_parts(struct s3 *s, struct upload_file *f)
{
	struct s3_call c = { .doing = "abort an upload",
			     .action = "s3:AbortMultipartUpload",
			     .method = "DELETE",
			     .key = f->file->key };
	s3_call_query(&c, "uploadId", f->id);
	s3_call(s, &c, NULL);
	s3_call_deinit(&c);
}

static int send_part(struct upload *u, const struct job *job, struct error *e)
{
	struct upload_file *f = job->file;
	char number[16];
	cleanup_fd int fd = open(f->file->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, "object %s: cannot open %s", f->file->key, f->file->path);
	uint64_t offset = job->part * f->part_size;
	uint64_t left = f->size - offset;
	struct s3_body body = { .fd = fd,
				.offset = offset,
				.len = left < f->part_size ? left : f->part_size };
	struct s3_call c = { .doing = "write",
			     .action = "s3:PutObject",
			     .method = "PUT",
			     .key = f->file->key,
			     .body = &body,
			     .digest = f->count == 0,
			     .stop = &u->stop };
	if (f->count) {
		snprintf(number, sizeof(number), "%zu", job->part + 1);
		s3_call_query(&c, "partNumber", number);
		s3_call_query(&c, "uploadId", f->id);
	}
	int r = s3_call(u->s, &c, e);
	if (r == 0 && f->count && !c.x.got.etag[0])
		r = error_set(e, EIO, "object %s: the server does not name part %s", f->file->key,
			      number);
	if (r == 0 && f->count)
		memcpy(f->parts[job->part].etag, c.x.got.etag, sizeof(c.x.got.etag));
	s3_call_deinit(&c);
	return r;
}

static const struct job *next_job(struct upload *u)
{
	pthread_mutex_lock(&u->lock);
	const struct job *job =
		u->next < u->job_count && u->result == 0 ? &u->jobs[u->next++] : NULL;
	pthread_mutex_unlock(&u->lock);
	return job;
}

/* The first failure is told; the others follow from its stop. */
static void note_failure(struct upload *u, int r, const struct error *e)
{
	pthread_mutex_lock(&u->lock);
	if (u->result == 0) {
		u->result = r;
		if (u->e)
			*u->e = *e;
	}
	atomic_store(&u->stop, true);
	pthread_mutex_unlock(&u->lock);
}

static void *work(void *arg)
{
	struct upload *u = arg;
	const struct job *job;
	while ((job = next_job(u))) {
		struct error e = ERROR_INIT;
		int r = send_part(u, job, &e);
		if (r < 0)
			note_failure(u, r, &e);
	}
	return NULL;
}

/* The calling thread is one of them, so that it goes on without any other. */
static int send_all(struct upload *u)
{
	pthread_t threads[THREADS - 1];
	size_t started = 0;
	while (started < THREADS - 1 && started + 1 < u->job_count &&
	       pthread_create(&threads[started], NULL, work, u) == 0)
		started++;
	work(u);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	return u->result;
}

static int completion(const struct upload_file *f, struct buf *to)
{
	int r = buf_printf(to, "<CompleteMultipartUpload>");
	for (size_t i = 0; i < f->count && r == 0; i++)
		r = buf_printf(to, "<Part><PartNumber>%zu</PartNumber><ETag>%s</ETag></Part>",
			       i + 1, f->parts[i].etag);
	return r < 0 ? r : buf_printf(to, "</CompleteMultipartUpload>");
}

/* The ETag that S3 gives to an object in parts: the MD5 of the parts' MD5s, and their number. */
static bool expected_etag(const struct upload_file *f, char *to, size_t size)
{
	unsigned char digest[16];
	char hex[33];
	cleanup_buf struct buf all = BUF_INIT(PARTS_MOST * sizeof(digest));
	for (size_t i = 0; i < f->count; i++) {
		long len = 0;
		char text[33];
		if (sscanf(f->parts[i].etag, "\"%32[0-9a-f]\"", text) != 1 || strlen(text) != 32)
			return false;
		unsigned char *bytes = OPENSSL_hexstr2buf(text, &len);
		int r = bytes ? buf_append(&all, bytes, (size_t)len) : -ENOMEM;
		OPENSSL_free(bytes);
		if (r < 0)
			return false;
	}
	if (!EVP_Digest(all.data, all.len, digest, NULL, EVP_md5(), NULL))
		return false;
	sigv4_hex(digest, sizeof(digest), hex);
	snprintf(to, size, "\"%s-%zu\"", hex, f->count);
	return true;
}

/* An upload that is not there any more may have been completed by a try whose answer was lost. */
static bool is_complete(struct s3 *s, const struct upload_file *f)
{
	struct s3_call c;
	char etag[64];
	bool good = s3_head(s, f->file->key, &c, NULL) == 0 && c.x.length == f->size &&
		    expected_etag(f, etag, sizeof(etag)) && strcmp(etag, c.x.got.etag) == 0;
	s3_call_deinit(&c);
	return good;
}

static int complete_parts(struct s3 *s, struct upload_file *f, struct error *e)
{
	cleanup_buf struct buf text = BUF_INIT(BODY_MOST);
	struct s3_call c = { .doing = "complete the upload",
			     .action = "s3:PutObject",
			     .method = "POST",
			     .key = f->file->key,
			     .once = true,
			     .error_in_200 = true };
	if (completion(f, &text) < 0)
		return fail_memory(e);
	c.body = &(struct s3_body) { .data = text.data, .fd = -1, .len = text.len };
	s3_call_query(&c, "uploadId", f->id);
	int r = s3_call(s, &c, e);
	if (r < 0 && c.unsure && strcmp(c.answer.code, "NoSuchUpload") == 0 && is_complete(s, f)) {
		if (e)
			error_clear(e);
		r = 0;
	}
	s3_call_deinit(&c);
	return r;
}

static int run(struct upload *u, struct error *e)
{
	int r = 0;
	for (size_t i = 0; i < u->file_count && r == 0; i++)
		if (u->files[i].count)
			r = begin_parts(u->s, &u->files[i], e);
	if (r == 0)
		r = send_all(u);
	for (size_t i = 0; i < u->file_count && r == 0; i++) {
		if (!u->files[i].id)
			continue;
		r = complete_parts(u->s, &u->files[i], e);
		if (r == 0) {
			free(u->files[i].id);
			u->files[i].id = NULL;
		}
	}
	return r;
}

static void upload_deinit(struct upload *u)
{
	for (size_t i = 0; i < u->file_count; i++) {
		if (u->files[i].id)
			abort_parts(u->s, &u->files[i]);
		free(u->files[i].id);
		free(u->files[i].parts);
	}
	free(u->files);
	free(u->jobs);
	pthread_mutex_destroy(&u->lock);
}

int s3_put_files(struct object_store *store, const struct object_file *files, size_t count,
		 struct error *e)
{
	struct upload u = { .s = (struct s3 *)store, .e = e, .lock = PTHREAD_MUTEX_INITIALIZER };
	if (count == 0)
		return 0;
	int r = plan(&u, files, count, e);
	if (r == 0)
		r = run(&u, e);
	upload_deinit(&u);
	for (size_t i = 0; i < count && r == 0; i++)
		unlink(files[i].path);
	return r;
}

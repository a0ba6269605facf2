/* SPDX-License-Identifier: Apache-2.0 */
#include "node/images.h"

#include "node/protobuf.h"

#include <errno.h>
#include <string.h>

/* criu/include/magic.h */
#define FILES_MAGIC 0x56303138u

enum { ENTRY_REG = 3, REG_FLAGS = 2, REG_NAME = 6, REG_SIZE = 8, REG_MODE = 10 };

static int append(struct buf *to, struct span s)
{
	return to ? buf_append(to, s.at, (size_t)(s.end - s.at)) : 0;
}

static int append_u32(struct buf *to, uint32_t value)
{
	return to ? buf_append(to, &value, sizeof(value))
		  : 0; /* as CRIU writes it: the host's order */
}

static int append_varint(struct buf *to, uint64_t value)
{
	uint8_t bytes[10];
	size_t n = 0;
	do {
		bytes[n++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
		value >>= 7;
	} while (value);
	return to ? buf_append(to, bytes, n) : 0;
}

static int read_file(struct span reg, struct image_file *file)
{
	struct field f;
	int r;
	*file = (struct image_file) { 0 };
	while ((r = protobuf_next(&reg, &f)) > 0) {
		if (f.number == REG_MODE)
			file->mode = (uint32_t)f.value;
		if (f.number == REG_FLAGS)
			file->flags = (uint32_t)f.value;
		if (f.number != REG_NAME)
			continue;
		if (!f.bytes.at)
			return -EBADMSG; /* a number */
		while (f.bytes.at < f.bytes.end && *f.bytes.at == '/')
			f.bytes.at++;
		size_t len = (size_t)(f.bytes.end - f.bytes.at);
		if (len >= sizeof(file->path) || memchr(f.bytes.at, 0, len))
			return -EBADMSG;
		memcpy(file->path, f.bytes.at, len);
		file->path[len] = '\0';
	}
	return r;
}

static int without_size(struct span reg, struct buf *to)
{
	struct field f;
	int r;
	while ((r = protobuf_next(&reg, &f)) > 0) {
		if (f.number != REG_SIZE && append(to, f.all) < 0)
			return -ENOMEM;
	}
	return r;
}

/* The entry's copy, with a smaller message where the file's size is left out. */
static int copy_entry(struct span entry, bool drop_size, struct buf *to)
{
	cleanup_buf struct buf copy = BUF_INIT(64 << 10);
	cleanup_buf struct buf reg = BUF_INIT(64 << 10);
	struct field f;
	int r;
	while ((r = protobuf_next(&entry, &f)) > 0) {
		if (!drop_size || f.number != ENTRY_REG) {
			r = append(&copy, f.all);
		} else {
			r = without_size(f.bytes, &reg);
			if (r == 0)
				r = append_varint(&copy, ENTRY_REG << 3 | WIRE_BYTES);
			if (r == 0)
				r = append_varint(&copy, reg.len);
			if (r == 0)
				r = buf_append(&copy, buf_text(&reg), reg.len);
		}
		if (r < 0)
			return r;
	}
	if (r == 0)
		r = append_u32(to, (uint32_t)copy.len);
	return r == 0 && to ? buf_append(to, buf_text(&copy), copy.len) : r;
}

static int do_entry(struct span entry, int (*each)(const struct image_file *file, void *arg),
		    void *arg, struct buf *to)
{
	struct image_file file;
	struct span rest = entry;
	struct field f;
	int r, drop = 0;
	while ((r = protobuf_next(&rest, &f)) > 0) {
		if (f.number != ENTRY_REG)
			continue;
		if (!f.bytes.at)
			return -EBADMSG;
		r = read_file(f.bytes, &file);
		if (r == 0)
			r = drop = each(&file, arg);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : copy_entry(entry, drop > 0, to);
}

int images_files(const void *data, size_t len,
		 int (*each)(const struct image_file *file, void *arg), void *arg, struct buf *to,
		 struct error *e)
{
	struct span s = { data, (const uint8_t *)data + len };
	if (!protobuf_image(&s, FILES_MAGIC))
		return error_set(e, EBADMSG, "this is no files.img");
	int r = append_u32(to, PROTOBUF_IMAGE_MAGIC);
	if (r == 0)
		r = append_u32(to, FILES_MAGIC);
	while (r == 0) {
		struct span entry;
		int more = protobuf_message(&s, &entry);
		if (more == 0)
			break;
		if (more < 0)
			return error_set(e, EBADMSG, "files.img is cut short");
		r = do_entry(entry, each, arg, to);
	}
	if (r == -EBADMSG)
		return error_set(e, EBADMSG, "files.img holds something else than messages");
	return r < 0 && e && e->fault == FAULT_NONE ? error_set(e, -r, "cannot copy files.img") : r;
}

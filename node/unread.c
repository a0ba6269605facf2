/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unread.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TABLE_MOST = 16 << 20 };

/* "  sl  local_address rem_address   st tx_queue rx_queue ..."; of one that listens the last is how
 * many wait to be accepted. Whose connection is but half open is about to send something: kept out,
 * it would believe to be connected to the session, which has never heard of it. */
bool unread_in(const char *text, int64_t port)
{
	enum { HALF_OPEN = 3 }; /* TCP_SYN_RECV */
	for (const char *line = text; line; line = strchr(line, '\n')) {
		unsigned local, state, waiting;
		line += *line == '\n';
		if (sscanf(line, " %*d: %*[0-9A-F]:%4X %*[0-9A-F]:%*X %2X %*X:%8X", &local, &state,
			   &waiting) == 3 &&
		    local == port && (waiting || state == HALF_OPEN))
			return true;
	}
	return false;
}

int unread_is_there(pid_t pid, int64_t port, bool *unread, struct error *e)
{
	static const char *const names[] = { "tcp", "tcp6" };
	*unread = false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[64];
		cleanup_buf struct buf text = BUF_INIT(TABLE_MOST);
		snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)pid, names[i]);
		int r = fs_read(path, &text, e);
		if (r == -ENOENT && i > 0) /* a kernel without IPv6 */
			return 0;
		if (r < 0)
			return r;
		*unread |= unread_in(buf_text(&text), port);
	}
	return 0;
}

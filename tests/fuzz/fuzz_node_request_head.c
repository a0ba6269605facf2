/* SPDX-License-Identifier: Apache-2.0 */
/* What comes to a sleeping session's address, from anybody: read in one piece and byte by byte, and
 * everything looked at that is asked of a head. */
#include "base/cleanup.h"
#include "node/activator_credentials.h"
#include "node/activator_polls.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void look(const struct request_head *head, const char *data, size_t size)
{
	const struct credential_rules rules = { .cookie = "jupyterhub-user-ada",
						.token_in_url = true,
						.now_s = 1795991000 };
	struct credentials who;
	char path[POLL_PATH_SIZE];
	struct text target = request_head_target(head, data);
	FUZZ_CHECK(head->len > 0 && head->len <= size);
	FUZZ_CHECK(target.at >= data && target.at + target.len <= data + head->len);
	FUZZ_CHECK(request_head_method(head)[0]);
	request_head_has_body(head);
	request_head_keeps_alive(head);
	for (unsigned i = 0; i < head->fields; i++) {
		struct text cookie = request_head_field(head, data, "Cookie", i);
		FUZZ_CHECK(!cookie.at || cookie.at + cookie.len <= data + head->len);
	}
	if (credentials_find(head, data, &rules, &who))
		FUZZ_CHECK(who.token[0] && strlen(who.token) < CREDENTIAL_SIZE &&
			   !strpbrk(who.token, " \r\n"));
	if (poll_path(target, "/user/ada/", path) == 0)
		FUZZ_CHECK(strlen(path) < POLL_PATH_SIZE && !strstr(path, "/../"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request_head whole, pieces;
	int r = 0;
	/* Of its own size, so that a sanitizer sees what is read beyond it. */
	cleanup_free char *text = malloc(size ? size : 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	request_head_init(&whole);
	request_head_init(&pieces);
	int at_once = request_head_read(&whole, text, size);
	for (size_t n = 1; n <= size && r == 0; n++)
		r = request_head_read(&pieces, text, n);
	FUZZ_CHECK(r == at_once && (r != 1 || pieces.len == whole.len));
	if (r == 1)
		look(&whole, text, size);
	return 0;
}

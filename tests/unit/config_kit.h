/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ELSA_TESTS_CONFIG_KIT_H
#define ELSA_TESTS_CONFIG_KIT_H

/* Configurations for unit tests. Behind cmocka.h. */

#include "config/config.h"

#include <string.h>

static inline struct config *parse(const char *text)
{
	struct config *config = NULL;
	struct error e = ERROR_INIT;
	if (config_parse(text, strlen(text), "test", &config, &e) < 0)
		fail_msg("%s", e.text);
	return config;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "node/close_soon.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

static void *close_main(void *fd)
{
	close((int)(intptr_t)fd);
	return NULL;
}

void close_soon(int fd)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, close_main, (void *)(intptr_t)fd) != 0)
		close(fd);
	else
		pthread_detach(thread);
}

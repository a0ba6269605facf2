/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "tests/unit/pages_world.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const int32_t pids[PROCESSES] = { 10, 20 };

uint64_t original(size_t process, uint64_t page)
{
	return page % 37 == 5 ? 0 : (process + 1) * 1000000 + page;
}

static uint64_t word(uint64_t id, size_t i)
{
	return id ? id * UINT64_C(0x9e3779b97f4a7c15) + i : 0;
}

static void fill_page(void *to, uint64_t id)
{
	uint64_t *words = to;
	for (size_t i = 0; i < PAGE / 8; i++)
		words[i] = word(id, i);
}

static bool is_page(const void *at, uint64_t id)
{
	const uint64_t *words = at;
	for (size_t i = 0; i < PAGE / 8; i++)
		if (words[i] != word(id, i))
			return false;
	return true;
}

uint64_t random_below(uint64_t *seed, uint64_t below)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (*seed >> 33) % below;
}

/* --- the checkpoint ------------------------------------------------------------------ */

struct checkpoint {
	struct control *control;
	struct store_memory memories[PROCESSES];
	struct store_extent extents[PROCESSES][3];
	uint32_t numbers[PROCESSES][PAGES];
	uint8_t slots[PROCESSES][PAGES];
	struct store_frame frames[PROCESSES * FRAMES];
	char names[PROCESSES][32];
};

/* Neither in order nor in place. 7 and the number of frames have no common divisor. */
uint32_t frame_of(size_t process, uint64_t page)
{
	return (uint32_t)((process * FRAMES + page / STORE_FRAME_PAGES) * 7 % (PROCESSES * FRAMES));
}

static uint8_t slot_of(uint64_t page)
{
	return (uint8_t)(STORE_FRAME_PAGES - 1 - page % STORE_FRAME_PAGES);
}

static int read_frame(struct checkpoint *c, uint32_t frame,
		      int (*each)(uint32_t frame, const void *pages, size_t len, void *arg),
		      void *arg)
{
	_Alignas(PAGE) static __thread unsigned char data[STORE_FRAME_BYTES];
	memset(data, 0xee, sizeof(data));
	for (size_t p = 0; p < PROCESSES; p++)
		for (uint64_t n = 0; n < PAGES; n++)
			if (c->numbers[p][n] == frame)
				fill_page(data + (size_t)slot_of(n) * PAGE, original(p, n));
	atomic_fetch_add(&c->control->frames_read, 1);
	return each(frame, data, sizeof(data), arg);
}

static int read_checkpoint(void *from, const uint32_t *frames, size_t count,
			   int (*each)(uint32_t frame, const void *pages, size_t len, void *arg),
			   void *arg, struct error *e)
{
	struct checkpoint *c = from;
	struct control *k = c->control;
	int r = 0;
	atomic_fetch_add(&k->reads, 1);
	atomic_fetch_add(&k->hanging, 1);
	while (atomic_load(&k->hang) || (count > 1 && atomic_load(&k->hang_many)))
		usleep(1000);
	atomic_fetch_sub(&k->hanging, 1);
	usleep((useconds_t)atomic_load(&k->delay_us));
	for (size_t i = 0; i < count && r == 0; i++) {
		if (i > 0 && frames[i] <= frames[i - 1])
			abort();
		if (atomic_load(&k->fail))
			return error_set(e, atomic_load(&k->fail), "the store is away");
		if (atomic_load(&k->bad) == (int)frames[i])
			return error_set(e, EBADMSG, "object x is damaged");
		r = read_frame(c, frames[i], each, arg);
	}
	return r;
}

static void *free_checkpoint(void *from)
{
	struct checkpoint *c = from;
	atomic_fetch_add(&c->control->freed, 1);
	free(c);
	return NULL;
}

void make_checkpoint(struct control *control, struct page_source *source)
{
	struct checkpoint *c = calloc(1, sizeof(*c));
	c->control = control;
	for (size_t p = 0; p < PROCESSES; p++) {
		struct store_extent extents[3] = {
			{ BASE, EAGER * CHUNK, 6 },
			{ BASE + (uint64_t)EAGER * CHUNK * PAGE, CHUNK, 4 },
			{ BASE + (uint64_t)(EAGER + 1) * CHUNK * PAGE, (MAPPED - EAGER - 1) * CHUNK,
			  6 },
		};
		memcpy(c->extents[p], extents, sizeof(extents));
		for (uint64_t n = 0; n < PAGES; n++) {
			c->numbers[p][n] = original(p, n) ? frame_of(p, n) : STORE_ZERO;
			c->slots[p][n] = slot_of(n);
		}
		snprintf(c->names[p], sizeof(c->names[p]), "pagemap-%d.img", (int)pids[p]);
		c->memories[p] = (struct store_memory) { .name = c->names[p],
							 .extents = c->extents[p],
							 .extent_count = 3,
							 .pages = PAGES,
							 .frames = c->numbers[p],
							 .slots = c->slots[p] };
	}
	for (uint32_t f = 0; f < PROCESSES * FRAMES; f++)
		c->frames[f] = (struct store_frame) { .pack = f / 50,
						      .offset = f % 50 * 70000,
						      .stored = 70000,
						      .pages = STORE_FRAME_PAGES };
	*source = (struct page_source) { .memories = c->memories,
					 .memory_count = PROCESSES,
					 .frames = c->frames,
					 .frame_count = PROCESSES * FRAMES,
					 .read = read_checkpoint,
					 .from = c,
					 .free = free_checkpoint };
}

/* --- a process of the session ---------------------------------------------------------- */

struct process {
	size_t number;
	int64_t model[SPACE]; /* id of each page; -1: not mapped */
	uint64_t seed;
	uint64_t next_id;
	char what[200]; /* went wrong */
};

static char *page_at(uint64_t n)
{
	return (char *)(uintptr_t)(BASE + n * PAGE);
}

static int complain(struct process *s, const char *what, uint64_t page)
{
	snprintf(s->what, sizeof(s->what), "%s at page %llu of process %zu (id %lld, has %llx)",
		 what, (unsigned long long)page, s->number, (long long)s->model[page],
		 (unsigned long long)*(const uint64_t *)page_at(page));
	return -1;
}

static int check_page(struct process *s, uint64_t n)
{
	if (s->model[n] < 0 || is_page(page_at(n), (uint64_t)s->model[n]))
		return 0;
	return complain(s, "wrong content", n);
}

static int check_all(struct process *s)
{
	for (uint64_t n = 0; n < SPACE; n++)
		if (check_page(s, n) < 0)
			return -1;
	return 0;
}

static int write_page(struct process *s, uint64_t n)
{
	if (s->model[n] < 0)
		return 0;
	s->model[n] = (int64_t)++s->next_id;
	fill_page(page_at(n), s->next_id);
	return 0;
}

static int empty(struct process *s, uint64_t n, uint64_t count)
{
	for (uint64_t i = n; i < n + count; i++)
		if (s->model[i] < 0)
			return 0;
	if (madvise(page_at(n), count * PAGE, MADV_DONTNEED) < 0)
		return complain(s, "madvise failed", n);
	for (uint64_t i = n; i < n + count; i++)
		s->model[i] = 0;
	return 0;
}

static int move(struct process *s, uint64_t from, uint64_t to)
{
	if (s->model[from] < 0 || s->model[to] >= 0)
		return 0;
	if (mremap(page_at(from), CHUNK * PAGE, CHUNK * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   page_at(to)) == MAP_FAILED)
		return complain(s, "mremap failed", from);
	for (uint64_t i = 0; i < CHUNK; i++) {
		s->model[to + i] = s->model[from + i];
		s->model[from + i] = -1;
	}
	return 0;
}

static int unmap(struct process *s, uint64_t from)
{
	if (s->model[from] < 0)
		return 0;
	if (munmap(page_at(from), CHUNK * PAGE) < 0)
		return complain(s, "munmap failed", from);
	for (uint64_t i = 0; i < CHUNK; i++)
		s->model[from + i] = -1;
	return 0;
}

static int do_something(struct process *s, bool may_fork);

/* A child that lives for a while, with children of its own; *pid when it is not waited for. */
static int fork_one(struct process *s, int steps, bool deep)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0)
		return complain(s, "fork failed", 0);
	if (pid == 0) {
		int r = 0;
		s->seed += (uint64_t)getpid();
		for (int i = 0; i < steps && r == 0; i++)
			r = do_something(s, deep && i == steps / 2);
		if (r == 0 && steps > 100)
			r = check_all(s);
		if (r < 0)
			dprintf(2, "in a fork: %s\n", s->what);
		_exit(r < 0);
	}
	int status;
	/* The parent goes on meanwhile. */
	for (int i = 0; i < 20; i++)
		if (do_something(s, false) < 0)
			return -1;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return complain(s, "a fork went wrong", 0);
	return 0;
}

static int do_something(struct process *s, bool may_fork)
{
	uint64_t what = random_below(&s->seed, 1000), n = random_below(&s->seed, SPACE);
	uint64_t chunk = n / CHUNK * CHUNK;
	if (may_fork)
		return fork_one(s, 30, false);
	if (what < 700)
		return check_page(s, n);
	if (what < 800)
		return write_page(s, n);
	if (what < 950)
		return empty(s, n, n + 3 <= chunk + CHUNK ? 3 : 1);
	if (what < 999)
		return move(s, chunk, random_below(&s->seed, CHUNKS) * CHUNK);
	return unmap(s, chunk);
}

static int stress(struct process *s, int rounds)
{
	int r = 0;
	for (int i = 0; i < rounds && r == 0; i++) {
		r = do_something(s, false);
		if (r == 0 && i % 100 == 99)
			r = fork_one(s, i % 300 == 299 ? 150 : 10, i % 500 == 499);
	}
	return r;
}

struct walker {
	struct process *s;
	pthread_t thread;
	uint64_t seed;
	int pages, result;
};

static void *walk(void *arg)
{
	struct walker *w = arg;
	for (int i = 0; i < w->pages && w->result == 0; i++)
		w->result = check_page(w->s, random_below(&w->seed, SPACE));
	return NULL;
}

static int walk_in_threads(struct process *s, int threads, int pages)
{
	struct walker walkers[16] = { { 0 } };
	int r = 0;
	for (int i = 0; i < threads; i++) {
		walkers[i] = (struct walker) { .s = s,
					       .seed = s->seed + (uint64_t)i * 77,
					       .pages = pages };
		pthread_create(&walkers[i].thread, NULL, walk, &walkers[i]);
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(walkers[i].thread, NULL);
		r |= walkers[i].result;
	}
	return r;
}

/* Of each frame one page is left. */
static int thin(struct process *s)
{
	int r = 0;
	for (uint64_t n = 0; n < PAGES && r == 0; n += STORE_FRAME_PAGES)
		r = empty(s, n, STORE_FRAME_PAGES - 1);
	return r;
}

/* Chunks move about, of which nothing is touched. */
static int dance(struct process *s, int steps)
{
	int r = 0;
	for (int i = 0; i < steps && r == 0; i++)
		r = move(s, random_below(&s->seed, CHUNKS) * CHUNK,
			 random_below(&s->seed, CHUNKS) * CHUNK);
	return r;
}

/* Forks that are there all at once, and end in their own time. */
static int many_forks(struct process *s, int count)
{
	int status, r = 0;
	for (int i = 0; i < count; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			uint64_t seed = (uint64_t)i;
			for (int k = 0; k < 5 && r == 0; k++)
				r = check_page(s, random_below(&seed, SPACE));
			_exit(r < 0);
		}
	}
	while (wait(&status) > 0)
		if (status != 0)
			r = complain(s, "a fork went wrong", 0);
	return r;
}

/* A fork that touches nothing and ends at once. */
static int fork_nothing(struct process *s)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : complain(s, "a fork failed", 0);
}

static int obey(struct process *s, const char *line)
{
	long long a = 0, b = 0;
	char verb[16] = "";
	sscanf(line, "%15s %lld %lld", verb, &a, &b); /* NOLINT(cert-err34-c) */
	uint64_t n = (uint64_t)a, m = (uint64_t)b;
	if (strcmp(verb, "check") == 0)
		return check_all(s);
	if (strcmp(verb, "page") == 0)
		return check_page(s, n);
	if (strcmp(verb, "write") == 0)
		return write_page(s, n);
	if (strcmp(verb, "empty") == 0)
		return empty(s, n, m);
	if (strcmp(verb, "move") == 0)
		return move(s, n * CHUNK, m * CHUNK);
	if (strcmp(verb, "unmap") == 0)
		return unmap(s, n * CHUNK);
	if (strcmp(verb, "fork") == 0)
		return fork_one(s, (int)a, false);
	if (strcmp(verb, "nothing") == 0)
		return fork_nothing(s);
	if (strcmp(verb, "forks") == 0)
		return many_forks(s, (int)a);
	if (strcmp(verb, "walk") == 0)
		return walk_in_threads(s, (int)a, (int)b);
	if (strcmp(verb, "thin") == 0)
		return thin(s);
	if (strcmp(verb, "dance") == 0)
		return dance(s, (int)a);
	if (strcmp(verb, "stress") == 0) {
		s->seed = m;
		return stress(s, (int)a);
	}
	return complain(s, "what?", 0);
}

int make_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API,
				  .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
					      UFFD_FEATURE_EVENT_UNMAP |
					      UFFD_FEATURE_EVENT_REMOVE };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
		return -1;
	return fd;
}

void send_descriptor(int to, int fd)
{
	char byte = 0;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec data = { &byte, 1 };
	struct msghdr m = { .msg_iov = &data,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(to, &m, 0) != 1)
		_exit(90);
}

/* As CRIU's restorer leaves a process: mapped, registered, its userfaultfd with the service alone.
 */
static void be_restored(struct process *s, int crius)
{
	int fd = make_userfaultfd();
	if (fd < 0 || write(crius, &pids[s->number], 4) != 4)
		_exit(91);
	send_descriptor(crius, fd);
	char *at = mmap(page_at(0), (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (at != page_at(0))
		_exit(92);
	for (uint64_t n = 0; n < SPACE; n++)
		s->model[n] = n < PAGES ? (int64_t)original(s->number, n) : -1;
	for (uint64_t n = EAGER * CHUNK; n < (EAGER + 1) * CHUNK; n++)
		fill_page(page_at(n), original(s->number, n));
	struct uffdio_register r = { .range = { BASE, (uint64_t)PAGES * PAGE },
				     .mode = UFFDIO_REGISTER_MODE_MISSING };
	if (ioctl(fd, UFFDIO_REGISTER, &r) < 0)
		_exit(93);
	close(fd);
}

/* Descriptor 0: orders; 3: CRIU's socket. */
int session_main(size_t number)
{
	static struct process s;
	char line[256];
	ssize_t n;
	s = (struct process) { .number = number, .seed = number, .next_id = (number + 1) << 40 };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	be_restored(&s, 3);
	close(3);
	if (send(0, "ready", 5, 0) != 5)
		return 94;
	while ((n = recv(0, line, sizeof(line) - 1, 0)) > 0) {
		line[n] = '\0';
		const char *answer = obey(&s, line) < 0 ? s.what : "ok";
		if (send(0, answer, strlen(answer), 0) < 0)
			return 95;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "node/net.h"

#include "base/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * A table that drops everything lies ready in each session's namespace and is
 * switched by its "dormant" flag. By netlink rather than by nft, which takes
 * 15 ms to start and refuses a real uid other than 0. As nft would say it:
 *
 *	table inet elsa_hold {
 *		flags dormant;
 *		chain in { type filter hook prerouting priority raw; policy drop; }
 *		chain out { type filter hook output priority raw; policy drop; }
 *	}
 *
 * That is before connection tracking and before a socket is looked up.
 */

#define TABLE "elsa_hold"

/* --- a netfilter socket of another namespace ------------------------------------- */

struct socket_request {
	int netns_fd;
	int fd; /* or a negative errno */
};

/* A socket belongs to the namespace it was made in; this thread is only for that. */
static void *open_socket(void *arg)
{
	struct socket_request *request = arg;
	if (setns(request->netns_fd, CLONE_NEWNET) < 0)
		request->fd = -errno;
	else
		request->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (request->fd == -1)
		request->fd = -errno;
	return NULL;
}

static int netfilter_socket(int netns_fd, struct error *e)
{
	struct socket_request request = { .netns_fd = netns_fd };
	pthread_t thread;
	int code = pthread_create(&thread, NULL, open_socket, &request);
	if (code)
		return error_set(e, code, "cannot start a thread: %s", strerror(code));
	pthread_join(thread, NULL);
	if (request.fd < 0)
		return error_set(e, -request.fd, "cannot open a netfilter socket: %s",
				 strerror(-request.fd));
	return request.fd;
}

/* --- messages (linux/netfilter/nfnetlink.h: changes come between "begin" and "end") --- */

struct batch {
	_Alignas(struct nlmsghdr) char data[1024]; /* ample for what is below */
	size_t len;
	size_t message; /* where the one being put together begins */
};

static void put(struct batch *b, const void *data, size_t len)
{
	if (len)
		memcpy(b->data + b->len, data, len);
	memset(b->data + b->len + len, 0, NLMSG_ALIGN(len) - len);
	b->len += NLMSG_ALIGN(len);
}

static void put_attribute(struct batch *b, int type, const void *data, size_t len)
{
	struct nlattr a = { (uint16_t)(NLA_HDRLEN + len), (uint16_t)type };
	put(b, &a, sizeof(a));
	put(b, data, len);
}

static void put_text(struct batch *b, int type, const char *text)
{
	put_attribute(b, type, text, strlen(text) + 1);
}

static void put_number(struct batch *b, int type, uint32_t value)
{
	value = htonl(value);
	put_attribute(b, type, &value, sizeof(value));
}

static void begin_message(struct batch *b, int type, int flags, int family, int resource)
{
	struct nlmsghdr header = { .nlmsg_type = (uint16_t)type,
				   .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) };
	struct nfgenmsg general = { .nfgen_family = (uint8_t)family,
				    .version = NFNETLINK_V0,
				    .res_id = htons((uint16_t)resource) };
	b->message = b->len;
	put(b, &header, sizeof(header));
	put(b, &general, sizeof(general));
}

static void end_message(struct batch *b)
{
	((struct nlmsghdr *)(void *)(b->data + b->message))->nlmsg_len =
		(uint32_t)(b->len - b->message);
}

static void put_mark(struct batch *b, int type)
{
	begin_message(b, type, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	end_message(b);
}

static void put_table(struct batch *b, int flags, bool held)
{
	begin_message(b, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, flags, NFPROTO_INET, 0);
	put_text(b, NFTA_TABLE_NAME, TABLE);
	put_number(b, NFTA_TABLE_FLAGS, held ? 0 : NFT_TABLE_F_DORMANT);
	end_message(b);
}

static void put_chain(struct batch *b, int flags, const char *name, uint32_t hook)
{
	begin_message(b, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN, flags, NFPROTO_INET, 0);
	put_text(b, NFTA_CHAIN_TABLE, TABLE);
	put_text(b, NFTA_CHAIN_NAME, name);
	size_t nest = b->len;
	put_attribute(b, NFTA_CHAIN_HOOK | NLA_F_NESTED, NULL, 0);
	put_number(b, NFTA_HOOK_HOOKNUM, hook);
	put_number(b, NFTA_HOOK_PRIORITY, (uint32_t)NF_IP_PRI_RAW);
	((struct nlattr *)(void *)(b->data + nest))->nla_len = (uint16_t)(b->len - nest);
	put_number(b, NFTA_CHAIN_POLICY, NF_DROP);
	put_text(b, NFTA_CHAIN_TYPE, "filter");
	end_message(b);
}

/* Of the answer only the error code matters; 0 is the acknowledgement. */
static int read_answer(int fd)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[1024];
	} answer;
	ssize_t n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(answer.header) + sizeof(answer.error) ||
	    answer.header.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.error.error;
}

/* One transaction, of which the last change is to be acknowledged: what comes first is that, or the
 * first failure. */
static int switch_table(int netns_fd, bool create, bool held, struct error *e)
{
	static const struct timeval patience = { .tv_sec = 10 };
	struct batch b = { .len = 0 };
	put_mark(&b, NFNL_MSG_BATCH_BEGIN);
	put_table(&b, create ? NLM_F_CREATE : NLM_F_ACK, held);
	if (create) {
		put_chain(&b, NLM_F_CREATE, "in", NF_INET_PRE_ROUTING);
		put_chain(&b, NLM_F_CREATE | NLM_F_ACK, "out", NF_INET_LOCAL_OUT);
	}
	put_mark(&b, NFNL_MSG_BATCH_END);
	cleanup_fd int fd = netfilter_socket(netns_fd, e);
	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	int r = send(fd, b.data, b.len, 0) < 0 ? -errno : read_answer(fd);
	return r < 0 ? error_set(e, -r, "cannot switch the session's packets %s: %s",
				 held ? "off" : "on", strerror(-r))
		     : 0;
}

int net_hold_setup(int netns_fd, bool held, struct error *e)
{
	return switch_table(netns_fd, true, held, e);
}

static int set_held(const struct net_session *s, bool held, struct error *e)
{
	cleanup_fd int fd = net_namespace_open(s, e);
	if (fd < 0)
		return fd;
	int r = switch_table(fd, false, held, e);
	/* A namespace whose setup was broken off. */
	return r == -ENOENT ? net_hold_setup(fd, held, e) : r;
}

int net_hold(const struct net_session *s, struct error *e)
{
	return set_held(s, true, e);
}

int net_release(const struct net_session *s, struct error *e)
{
	return set_held(s, false, e);
}

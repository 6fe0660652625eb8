/* Puts COUNT entries into the connection tracking table of its network namespace, by ctnetlink.
 *
 * ctfill COUNT SOURCES TARGETS DPORT STATE STATUS TIMEOUT: TCP from 10.0.0.0 and up to 10.128.0.0 and up. Prints how many
 * the kernel refused, and the last errno. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <linux/netlink.h>

static char buffer[65536];
static size_t used;

static size_t begin(uint16_t type) {
	size_t at = used;
	uint16_t head[2] = {0, type};
	memcpy(buffer + used, head, 4);
	used += 4;
	return at;
}

static void end(size_t at) {
	uint16_t size = used - at;
	memcpy(buffer + at, &size, 2);
	while (used % 4)
		buffer[used++] = 0;
}

static void put(uint16_t type, const void *data, size_t size) {
	size_t at = begin(type);
	memcpy(buffer + used, data, size);
	used += size;
	end(at);
}

static void put32(uint16_t type, uint32_t value) {
	value = htonl(value);
	put(type, &value, 4);
}

static void put16(uint16_t type, uint16_t value) {
	value = htons(value);
	put(type, &value, 2);
}

static void put8(uint16_t type, uint8_t value) {
	put(type, &value, 1);
}

static void tuple(uint16_t type, uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport) {
	size_t outer = begin(type | NLA_F_NESTED), inner = begin(1 | NLA_F_NESTED);
	put32(1, src);
	put32(2, dst);
	end(inner);
	inner = begin(2 | NLA_F_NESTED);
	put8(1, IPPROTO_TCP);
	put16(2, sport);
	put16(3, dport);
	end(inner);
	end(outer);
}

static void entry(uint32_t src, uint32_t dst, uint16_t sport, uint16_t dport, int state, int status, int timeout) {
	size_t at = used, outer, inner;
	struct nlmsghdr head = {.nlmsg_type = 1 << 8, .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL};
	char generic[4] = {AF_INET};
	uint16_t liberal = 0x0a0a;
	used += sizeof head;
	memcpy(buffer + used, generic, 4);
	used += 4;
	tuple(1, src, dst, sport, dport);
	tuple(2, dst, src, dport, sport);
	put32(3, status);
	put32(7, timeout);
	outer = begin(4 | NLA_F_NESTED);
	inner = begin(1 | NLA_F_NESTED);
	put8(1, state);
	put(4, &liberal, 2);
	put(5, &liberal, 2);
	end(inner);
	end(outer);
	head.nlmsg_len = used - at;
	memcpy(buffer + at, &head, sizeof head);
}

int main(int argc, char **argv) {
	long numbers[7], refused = 0, last = 0;
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER), size = 1 << 24;
	if (argc != 8 || fd < 0)
		return 2;
	for (int i = 0; i < 7; i++)
		numbers[i] = strtol(argv[i + 1], NULL, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	for (long i = 0; i < numbers[0]; i++) {
		long pairs = numbers[1] * numbers[2];
		entry(0x0a000000 + i % numbers[1], 0x0a800000 + i / numbers[1] % numbers[2], 1024 + i / pairs, numbers[3],
		      numbers[4], numbers[5], numbers[6]);
		if (i % 100 != 99 && i != numbers[0] - 1)
			continue;
		if (send(fd, buffer, used, 0) < 0)
			return 3;
		used = 0;
		static char answers[1 << 16];
		for (ssize_t n; (n = recv(fd, answers, sizeof answers, MSG_DONTWAIT)) > 0;)
			for (struct nlmsghdr *m = (void *)answers; NLMSG_OK(m, n); m = NLMSG_NEXT(m, n)) {
				int code = m->nlmsg_type == NLMSG_ERROR ? ((struct nlmsgerr *)NLMSG_DATA(m))->error : 0;
				refused += code != 0;
				last = code ? -code : last;
			}
	}
	printf("%ld %ld\n", refused, last);
	return 0;
}

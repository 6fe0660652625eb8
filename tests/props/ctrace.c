/* Two packets of one new connection at the same time, again and again: two threads send the same SYN at once.
 *
 * Each makes an entry of its own; who comes second finds the place in the table taken, and TCP has no way to make one
 * entry of two. Until it is killed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static _Atomic long reached[2];

static void *run(void *which) {
	long me = (long)which;
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
	struct sockaddr_in to = {.sin_family = AF_INET};
	cpu_set_t allowed, mine;
	long seen = 0;
	/* Each on a processor of its own, and before others: they have to run at the same moment. */
	sched_getaffinity(0, sizeof allowed, &allowed);
	CPU_ZERO(&mine);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && seen++ == me)
			CPU_SET(cpu, &mine);
	sched_setaffinity(0, sizeof mine, &mine);
	for (long turn = 1;; turn++) {
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK + turn / 60000 % 65536);
		uint16_t words[10] = {htons(1024 + turn % 60000), htons(9), 0, htons(1), 0, 0, htons(5 << 12 | 2), htons(1024)};
		atomic_store(&reached[me], turn);
		for (int spins = 0; atomic_load(&reached[!me]) < turn; spins++)
			if (spins > 10000)
				sched_yield();
		sendto(fd, words, sizeof words, 0, (struct sockaddr *)&to, sizeof to);
	}
	return NULL;
}

int main(void) {
	pthread_t other;
	errno = 0;
	if (nice(-20) == -1 && errno)
		return 1;
	pthread_create(&other, NULL, run, (void *)1);
	run((void *)0);
}

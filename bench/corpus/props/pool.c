/* pool N: N threads that all wait for each other, then end. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_barrier_t together;

static void *work(void *unused)
{
	pthread_barrier_wait(&together);
	return unused;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 0, made = 0;
	pthread_t *threads = calloc(n, sizeof(*threads));
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	pthread_barrier_init(&together, NULL, n + 1);
	while (made < n && !pthread_create(&threads[made], &attr, work, NULL))
		made++;
	if (made < n)
		return 1;
	pthread_barrier_wait(&together);
	while (made)
		pthread_join(threads[--made], NULL);
	printf("%d done\n", n);
	return 0;
}

/* teams P T: P forked processes with T threads each, as numeric libraries start them; all at once, then all end. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void *work(void *unused)
{
	usleep(700000);
	return unused;
}

static int team(int threads)
{
	pthread_t *t = calloc(threads, sizeof(*t));
	int n;

	for (n = 0; n < threads; n++)
		if (pthread_create(&t[n], NULL, work, NULL))
			return 1;
	while (n)
		pthread_join(t[--n], NULL);
	return 0;
}

int main(int argc, char **argv)
{
	int processes = argc > 1 ? atoi(argv[1]) : 0, threads = argc > 2 ? atoi(argv[2]) : 0, good = 0, status;

	for (int n = 0; n < processes; n++)
		if (fork() == 0)
			_exit(team(threads));
	while (wait(&status) > 0)
		good += status == 0;
	printf("%d teams\n", good);
	return 0;
}

/*
 * restless: a fork bomb, only ever run inside a pen, beside whose members are three that never fork: two spin, and one
 * sends SIGCONT to everybody every two milliseconds.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <unistd.h>

int main(void)
{
	setpgid(0, 0);
	for (int i = 0; i < 3; i++)
		if (fork() == 0)
			for (;;)
				if (i == 0 && usleep(2000) == 0)
					kill(0, SIGCONT);
	for (;;)
		fork();
}

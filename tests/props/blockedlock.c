/*
 * blockedlock WHAT [ARGUMENT]: as blocked.c, with locks: in memory, of files, and of System V.
 *
 *   mutex KIND      A B, thread that waits, owner: in one process (normal, pi, robust); the owner reads from a pipe of B, who
 *                   sleeps. shared: A waits for B, who owns it and sleeps, then 0 0. dead: its owner has ended
 *   relock          A 0: A owns it itself
 *   mutexes         A 0, thread, thread: each owns what the other one waits for
 *   rwlock, join, cond   A thread: the owner, who sleeps; who is waited for; another one that sleeps
 *   semaphore       A 0: nobody else is there
 *   fcntl, ofd FILE A B: B has the lock, and sleeps; a third one has a lock of another part
 *   flock FILE      A B, C 0: A waits for B, who waits for C with a lock of FILE.2, in pause
 *   flocks FILE     A B: each has what the other one waits for
 *   semop, msgrcv   A ID
 */
#include "blocked.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>

static pid_t tid(void)
{
	return syscall(SYS_gettid);
}

static pthread_mutex_t *mutex, *other;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t semaphore, owned;
static pthread_barrier_t barrier;

static void make_mutex(const char *kind)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	other = mutex + 1;
	if (!strcmp(kind, "shared"))
		pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (!strcmp(kind, "pi"))
		pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	if (!strcmp(kind, "robust"))
		pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &attributes);
	pthread_mutex_init(other, &attributes);
}

static void *thread_owner(void *unused)
{
	pthread_mutex_lock(mutex);
	ready(tid());
	sem_post(&owned);
	if (!strcmp(argument, "dead"))
		return unused;
	close(one[1]);
	take_byte(one[0]);
	return unused;
}

static void *thread_waits(void *unused)
{
	ready(tid());
	pthread_mutex_lock(mutex);
	return unused;
}

static void start(void *(*act)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, act, NULL))
		die("pthread_create");
}

static void mutex_in_threads(void)
{
	pthread_t owner;

	make_mutex(argument);
	if (pthread_create(&owner, NULL, thread_owner, NULL))
		die("pthread_create");
	sem_wait(&owned);
	if (!strcmp(argument, "dead"))
		pthread_join(owner, NULL);
	start(thread_waits);
	rest();
}

static void relocks(void)
{
	make_mutex("normal");
	pthread_mutex_lock(mutex);
	pthread_mutex_lock(mutex);
}

static void shared_owner(void)
{
	pthread_mutex_lock(mutex);
	ready(getpid());
	nap();
}

static void shared_waiter(void)
{
	pthread_mutex_lock(mutex);
}

static void *second_of_mutexes(void *unused)
{
	pthread_mutex_lock(other);
	ready(tid());
	pthread_barrier_wait(&barrier);
	pthread_mutex_lock(mutex);
	return unused;
}

static void *first_of_mutexes(void *unused)
{
	pthread_mutex_lock(mutex);
	ready(tid());
	pthread_barrier_wait(&barrier);
	pthread_mutex_lock(other);
	return unused;
}

static void mutexes(void)
{
	make_mutex("normal");
	pthread_barrier_init(&barrier, NULL, 2);
	start(first_of_mutexes);
	start(second_of_mutexes);
	rest();
}

static void *thread_naps(void *unused)
{
	ready(tid());
	sem_post(&owned);
	nap();
	return unused;
}

static void *thread_writes(void *unused)
{
	pthread_rwlock_wrlock(&rwlock);
	return thread_naps(unused);
}

static void rwlocks(void)
{
	start(thread_writes);
	sem_wait(&owned);
	pthread_rwlock_rdlock(&rwlock);
}

static void joins(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, thread_naps, NULL);
	pthread_join(thread, NULL);
}

static void waits_for_cond(void)
{
	make_mutex("normal");
	start(thread_naps);
	pthread_mutex_lock(mutex);
	pthread_cond_wait(&cond, mutex);
}

static void waits_for_semaphore(void)
{
	sem_init(&semaphore, 0, 0);
	sem_wait(&semaphore);
}

/* -- locks of files ----------------------------------------------------------------------------------------------- */

static int ofd;

static int lock_command(int wait)
{
	if (ofd)
		return wait ? F_OFD_SETLKW : F_OFD_SETLK;
	return wait ? F_SETLKW : F_SETLK;
}

static int opened(const char *more)
{
	char path[512];
	int fd;

	snprintf(path, sizeof path, "%s%s", argument, more);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		die(path);
	return fd;
}

static void locked(off_t start, off_t length, int wait)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

	if (fcntl(opened(""), lock_command(wait), &lock))
		die("fcntl");
}

static void fcntl_owner(void)
{
	locked(0, 10, 0);
	ready(getpid());
	nap();
}

static void fcntl_elsewhere(void)
{
	locked(100, 10, 0);
	ready(getpid());
}

static void fcntl_waiter(void)
{
	locked(5, 1, 1);
}

static void flock_last(void)
{
	flock(opened(".2"), LOCK_EX);
	ready(getpid());
}

static void flock_middle(void)
{
	flock(opened(""), LOCK_EX);
	ready(getpid());
	flock(opened(".2"), LOCK_EX);
}

static void flock_first(void)
{
	flock(opened(""), LOCK_EX);
}

static void crossed(const char *mine, const char *theirs)
{
	flock(opened(mine), LOCK_EX);
	ready(getpid());
	take_byte(one[0]);
	flock(opened(theirs), LOCK_EX);
}

static void crossed_one(void)
{
	crossed("", ".2");
}

static void crossed_two(void)
{
	crossed(".2", "");
}

/* -- System V ------------------------------------------------------------------------------------------------------ */

static int ipc;

static void takes_semaphore(void)
{
	struct sembuf take = {0, -1, 0};

	semop(ipc, &take, 1);
}

static void takes_message(void)
{
	struct msgbuf {
		long type;
		char text[8];
	} message;

	msgrcv(ipc, &message, 8, 0, 0);
}

static void run(const char *what)
{
	pid_t a, b;
	long number;

	if (!strcmp(what, "mutex") && !strcmp(argument, "shared")) {
		make_mutex(argument);
		b = born(shared_owner);
		heard();
		say(born(shared_waiter), b);
	} else if (!strcmp(what, "relock")) {
		say(born(relocks), 0);
	} else if (!strcmp(what, "mutex")) {
		a = born(mutex_in_threads);
		b = born(nap);
		say(a, b);
		number = heard();
		say(heard(), number);
	} else if (!strcmp(what, "mutexes")) {
		say(born(mutexes), 0);
		number = heard();
		say(number, heard());
	} else if (!strcmp(what, "rwlock") || !strcmp(what, "join") || !strcmp(what, "cond")) {
		a = born(!strcmp(what, "rwlock") ? rwlocks : !strcmp(what, "join") ? joins : waits_for_cond);
		say(a, heard());
	} else if (!strcmp(what, "semaphore")) {
		say(born(waits_for_semaphore), 0);
	} else if (!strcmp(what, "fcntl") || !strcmp(what, "ofd")) {
		ofd = !strcmp(what, "ofd");
		b = born(fcntl_owner);
		heard();
		born(fcntl_elsewhere);
		heard();
		say(born(fcntl_waiter), b);
	} else if (!strcmp(what, "flock")) {
		pid_t c = born(flock_last);

		heard();
		b = born(flock_middle);
		heard();
		say(born(flock_first), b);
		say(c, 0);
	} else if (!strcmp(what, "flocks")) {
		a = born(crossed_one);
		b = born(crossed_two);
		heard();
		heard();
		if (write(one[1], "..", 2) != 2)
			die("write");
		say(a, b);
	} else if (!strcmp(what, "semop")) {
		ipc = semget(IPC_PRIVATE, 1, 0600);
		say(born(takes_semaphore), ipc);
	} else if (!strcmp(what, "msgrcv")) {
		ipc = msgget(IPC_PRIVATE, 0600);
		say(born(takes_message), ipc);
	} else {
		exit(2);
	}
}

int main(int argc, char **argv)
{
	serve(argc, argv, run);
	if (!strcmp(argv[1], "semop"))
		semctl(ipc, 0, IPC_RMID);
	if (!strcmp(argv[1], "msgrcv"))
		msgctl(ipc, IPC_RMID, NULL);
	return 0;
}

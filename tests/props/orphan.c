/*
 * orphan [WHAT …]: makes a process that loses its parent, prints its pid and that of its parent, and waits. A line on
 * standard input takes away what it leads to: the far ends of its pipe or terminal are closed, and `leader` ends. All of
 * them end with this program: each waits for a pipe that only this one has the other end of.
 *
 * This program makes L, which begins a session, L makes the parent M, M makes the orphan O and exits; L exits. Then O is
 * in L's session and in M's process group, as the job of a shell is. Input and output of O are /dev/null.
 *
 *   daemon     M begins a session of its own, as in a double fork     own        O does
 *   leader     L stays (until the line)                               subreaper  this program adopts O
 *   killed     M is killed by SIGKILL                                 failed     M exits with 3
 *   pipe       O's output is a pipe, read here                        terminal   all three are a terminal, held here
 *   input      O's input is a pipe, written to here                   nohup      O ignores SIGHUP
 *   login=UID  L logs in: loginuid                                    folder     the folder O works in is deleted
 *   stubborn   O ignores SIGTERM                                      kids=N     O has N children
 *   name       O has a hostile name                                   inside     all but this program in a pid namespace
 *   user=UID   O is that user's
 *   born       O is a child of L, with a session of its own, and loses nobody
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char **words;
static int alive[2], leads[2], far_end = -1;

static const char *has(const char *what)
{
	size_t n = strlen(what);

	for (char **w = words; *w; w++)
		if (!strncmp(*w, what, n) && ((*w)[n] == '=' || !(*w)[n]))
			return (*w)[n] ? *w + n + 1 : *w;
	return NULL;
}

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

/* Until this program has closed its end, or is gone. */
static void wait_for(int fd)
{
	char c;

	while (read(fd, &c, 1) > 0)
		;
}

/* Says who we are through a socket: the kernel fills in the pid as the reader knows it. */
static void say(int to, char what)
{
	struct ucred who = { .pid = getpid(), .uid = getuid(), .gid = getgid() };
	char space[CMSG_SPACE(sizeof(who))] = { 0 };
	struct iovec io = { &what, 1 };
	struct msghdr msg = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_CREDENTIALS;
	c->cmsg_len = CMSG_LEN(sizeof(who));
	memcpy(CMSG_DATA(c), &who, sizeof(who));
	if (sendmsg(to, &msg, 0) < 0)
		die("orphan: sendmsg");
}

static int hear(int from, char *what)
{
	char space[CMSG_SPACE(sizeof(struct ucred))] = { 0 };
	struct iovec io = { what, 1 };
	struct msghdr msg = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
	struct ucred who;

	if (recvmsg(from, &msg, 0) <= 0 || !CMSG_FIRSTHDR(&msg))
		exit(1); /* somebody said why on standard error */
	memcpy(&who, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(who));
	return who.pid;
}

static void orphan(const int *ends, int to)
{
	char folder[] = "/tmp/pidwarden-orphan-XXXXXX";

	if (has("own") || has("born"))
		setsid();
	for (int fd = 0; fd < 3; fd++)
		if (dup2(ends[fd], fd) < 0)
			die("orphan: dup2");
	for (int fd = 3; fd < 64; fd++)
		if (fd != alive[0] && fd != to)
			close(fd);
	signal(SIGHUP, has("nohup") ? SIG_IGN : SIG_DFL);
	if (has("stubborn"))
		signal(SIGTERM, SIG_IGN);
	if (has("folder") && (!mkdtemp(folder) || chdir(folder) || rmdir(folder)))
		die("orphan: folder");
	if (has("name"))
		prctl(PR_SET_NAME, ") Z 1 (\n\033[31m\377");
	if (has("user") && setresuid(atoi(has("user")), atoi(has("user")), atoi(has("user"))))
		die("orphan: setresuid");
	for (int n = has("kids") ? atoi(has("kids")) : 0; n; n--)
		if (!fork()) {
			close(to);
			wait_for(alive[0]);
			_exit(0);
		}
	say(to, 'o');
	close(to);
	wait_for(alive[0]);
	_exit(0);
}

static void parent(const int *ends, int to, int from)
{
	pid_t pid;
	char c;

	if (has("daemon"))
		setsid();
	else
		setpgid(0, 0);
	say(to, 'm');
	pid = fork();
	if (pid < 0)
		die("orphan: fork");
	if (!pid)
		orphan(ends, to);
	while (read(from, &c, 1) < 0) /* until O is what it is to be */
		;
	if (has("killed"))
		raise(SIGKILL);
	_exit(has("failed") ? 3 : 0);
}

static void leader(const int *ends, int to, int from)
{
	const char *user = has("login");
	char line[1];
	pid_t pid;

	close(alive[1]);
	close(leads[1]);
	if (far_end >= 0)
		close(far_end);
	setsid();
	if (user) {
		int fd = open("/proc/self/loginuid", O_WRONLY);

		if (fd < 0 || write(fd, user, strlen(user)) < 0)
			die("orphan: loginuid");
		close(fd);
	}
	if (has("born"))
		say(to, 'm');
	pid = fork();
	if (pid < 0)
		die("orphan: fork");
	if (!pid && has("born"))
		orphan(ends, to);
	if (!pid)
		parent(ends, to, from);
	if (!has("born"))
		waitpid(pid, NULL, 0);
	else if (read(from, line, 1) < 0)
		die("orphan: read");
	say(to, 'l');
	close(to);
	if (has("leader"))
		wait_for(leads[0]);
	if (has("inside"))
		wait_for(alive[0]); /* the first of a namespace takes all of it along */
	_exit(0);
}

static void make_ends(int *ends)
{
	int null = open("/dev/null", O_RDWR), two[2], unlock = 0, number;
	char name[32];

	ends[0] = ends[1] = ends[2] = null;
	if (has("pipe") || has("input")) {
		if (pipe(two))
			die("orphan: pipe");
		ends[!!has("pipe")] = two[!!has("pipe")];
		far_end = two[!has("pipe")];
	}
	if (has("terminal")) {
		far_end = open("/dev/ptmx", O_RDWR | O_NOCTTY);
		if (far_end < 0 || ioctl(far_end, TIOCSPTLCK, &unlock) || ioctl(far_end, TIOCGPTN, &number))
			die("orphan: ptmx");
		snprintf(name, sizeof(name), "/dev/pts/%d", number);
		ends[0] = ends[1] = ends[2] = open(name, O_RDWR | O_NOCTTY);
	}
}

int main(int argc, char **argv)
{
	int talk[2], go[2], ends[3], one = 1, o = 0, m = 0;
	pid_t pid;
	char c, line[64];

	(void)argc;
	words = argv + 1;
	if (pipe(alive) || pipe(leads) || pipe(go) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, talk))
		die("orphan: pipe");
	setsockopt(talk[0], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
	make_ends(ends);
	if (has("subreaper"))
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (has("inside") && unshare(CLONE_NEWPID))
		die("orphan: unshare");
	pid = fork();
	if (pid < 0)
		die("orphan: fork");
	if (!pid) {
		close(talk[0]);
		close(go[1]);
		leader(ends, talk[1], go[0]);
	}
	close(talk[1]);
	close(go[0]);
	for (int fd = 0; fd < 3; fd++)
		if (ends[fd] > 2 && (!fd || ends[fd] != ends[fd - 1]))
			close(ends[fd]);
	for (c = 0; c != 'l';) {
		int who = hear(talk[0], &c);

		if (c == 'm')
			m = who;
		if (c == 'o') {
			o = who;
			if (write(go[1], "", 1) != 1)
				die("orphan: go");
		}
	}
	close(go[1]);
	if (!has("leader") && !has("inside"))
		waitpid(pid, NULL, 0);
	printf("%d %d\n", o, m);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		close(leads[1]);
		if (far_end >= 0)
			close(far_end);
		far_end = -1;
		if (has("leader") && !has("inside"))
			waitpid(pid, NULL, 0);
		printf("0 0\n");
		fflush(stdout);
	}
	return 0;
}

/*
 * inexec DIR [apart]: a bomb that sits within execve. It serves a FUSE filesystem on DIR in a mount namespace of its own
 * (and a user namespace, if it is not root), which never answers FLUSH. Every second member calls exec with a file of it
 * open, and from then on the kernel holds up whoever reads its `stat`. Only ever run inside a pen: with the server ends
 * the connection, and with that the wait.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void answer(int fuse, uint64_t unique, const void *data, size_t size)
{
	char buffer[256];
	struct fuse_out_header *out = (void *)buffer;

	*out = (struct fuse_out_header){.len = sizeof(*out) + size, .unique = unique};
	memcpy(out + 1, data, size);
	if (write(fuse, buffer, out->len) < 0)
		die("an answer to FUSE");
}

/* Answers what it takes to open DIR/file; all else is heard, and never answered. */
static void serve(int fuse)
{
	static char buffer[1 << 17];
	struct fuse_in_header *in = (void *)buffer;
	struct fuse_init_out init = {.major = 7, .minor = 31, .max_write = 4096, .max_background = 16};
	struct fuse_open_out opened = {.fh = 1};

	while (read(fuse, buffer, sizeof(buffer)) > 0) {
		uint32_t mode = in->nodeid == 1 && in->opcode != FUSE_LOOKUP ? 040755 : 0100644;
		struct fuse_attr attr = {.ino = 2, .size = 4096, .nlink = 1, .mode = mode, .uid = in->uid, .gid = in->gid};
		struct fuse_attr_out got = {.attr_valid = 3600, .attr = attr};
		struct fuse_entry_out entry = {.nodeid = 2, .entry_valid = 3600, .attr_valid = 3600, .attr = attr};

		if (in->opcode == FUSE_INIT)
			answer(fuse, in->unique, &init, sizeof(init));
		else if (in->opcode == FUSE_GETATTR)
			answer(fuse, in->unique, &got, sizeof(got));
		else if (in->opcode == FUSE_LOOKUP)
			answer(fuse, in->unique, &entry, sizeof(entry));
		else if (in->opcode == FUSE_OPEN)
			answer(fuse, in->unique, &opened, sizeof(opened));
	}
	exit(0);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static void own_namespaces(void)
{
	char map[64];
	int uid = getuid(), gid = getgid();

	if (unshare(CLONE_NEWNS | (uid ? CLONE_NEWUSER : 0)))
		die("unshare");
	if (uid) {
		put("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %d 1", uid);
		put("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %d 1", gid);
		put("/proc/self/gid_map", map);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("a mount namespace of its own");
}

/*
 * The one who serves. A child who was there well before the copies speaks for its parent, and both are spared: so does
 * a server `apart`. Otherwise it is a child's child, and that child has two, as copies of a bomb have.
 */
static void begin_server(int fuse, int apart)
{
	struct timespec well_before = {0, 300000000};

	if (fork() == 0) {
		if (apart || fork() == 0)
			serve(fuse);
		close(fuse);
		fork();
		for (;;)
			pause();
	}
	if (apart)
		nanosleep(&well_before, NULL);
}

int main(int argc, char **argv)
{
	int fuse;
	char path[512], options[128];
	struct timespec t = {0, 2000000};

	if (argc < 2)
		return 2;
	if (!strcmp(argv[1], "again")) /* its exec came to an end after all */
		for (;;)
			pause();
	own_namespaces();
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0)
		die("/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=%d,group_id=%d", fuse, getuid(), getgid());
	if (mount("silent", argv[1], "fuse.silent", MS_NOSUID | MS_NODEV, options))
		die("mount");
	begin_server(fuse, argc > 2);
	close(fuse);
	snprintf(path, sizeof(path), "%s/file", argv[1]);
	if (open(path, O_RDONLY | O_CLOEXEC) < 0)
		die(path);
	for (;;) {
		if (fork() == 0 && fork() == 0)
			execl("/proc/self/exe", "inexec", "again", NULL); /* which closes the file, and waits for the answer */
		nanosleep(&t, NULL);
	}
}

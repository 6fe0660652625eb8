/*
 * Makes every system call of the machine's own ABI once, and none: a filter of seccomp refuses them all with ENOSYS, after
 * a tracer has seen their entry. All arguments are zero.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LAST = 470, UPROBES = 335 }; /* two calls of x86-64 from there on are the kernel's own: SIGILL, unfiltered */

int main(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 38),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 1;
	for (long nr = 0; nr < LAST; nr++)
		if (nr != SYS_exit_group && nr != UPROBES && nr != UPROBES + 1)
			syscall(nr, 0, 0, 0, 0, 0, 0);
	return 0;
}

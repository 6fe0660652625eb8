/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * A system call's number and arguments, out of the registers that the raw tracepoints hand over.
 */
#ifndef PIDWARDEN_TRACE_REGS_H
#define PIDWARDEN_TRACE_REGS_H

#include "calls.h"
#include "trace_abi.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* arch/x86/include/asm/ptrace.h; the order of these is fixed, as entry code pushes them. */
struct pt_regs___x86 {
	unsigned long bp;
	unsigned long bx;
	unsigned long r10;
	unsigned long orig_ax;
};

/* arch/arm64/include/asm/ptrace.h */
struct pt_regs___arm64 {
	__u64 regs[31];
	__u64 orig_x0;
	int syscallno;
};

#pragma clang attribute pop

/* From r10 on. */
enum x86_word { R10, R9, R8, AX, CX, DX, SI, DI, ORIG_AX, X86_WORDS };

/* As in_32_bit_call() of calls.h, of the current task and without a call for the read: it is asked for every call. */
static __always_inline bool in_compat_call(void)
{
	struct task_struct *self = (struct task_struct *)bpf_get_current_task_btf();

	if (is_x86(self))
		return self->thread_info.status & TS_COMPAT;
	return self->thread_info.flags & TIF_32BIT;
}

/*
 * The six arguments of the call that `regs` are of, at its entry or its return, into `args`; its number is what is
 * returned. x86 keeps all of them until the return, arm64 too, but for the first, of which there is a copy.
 */
static __always_inline __s64 read_call(void *regs, __u64 *args, bool compat)
{
	__u64 words[X86_WORDS] = {};

	if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->orig_ax)) {
		bpf_probe_read_kernel(words, sizeof(words), &((struct pt_regs___x86 *)regs)->r10);
		if (compat) { /* arch/x86/entry: bx, cx, dx, si, di, bp */
			args[0] = (__u32)BPF_CORE_READ((struct pt_regs___x86 *)regs, bx);
			args[1] = (__u32)words[CX];
			args[2] = (__u32)words[DX];
			args[3] = (__u32)words[SI];
			args[4] = (__u32)words[DI];
			args[5] = (__u32)BPF_CORE_READ((struct pt_regs___x86 *)regs, bp);
		} else {
			args[0] = words[DI];
			args[1] = words[SI];
			args[2] = words[DX];
			args[3] = words[R10];
			args[4] = words[R8];
			args[5] = words[R9];
		}
		return (__s64)words[ORIG_AX];
	}
	if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->syscallno)) {
		bpf_probe_read_kernel(args, TR_ARGS * sizeof(__u64), &((struct pt_regs___arm64 *)regs)->regs);
		args[0] = BPF_CORE_READ((struct pt_regs___arm64 *)regs, orig_x0);
		return BPF_CORE_READ((struct pt_regs___arm64 *)regs, syscallno);
	}
	return -1;
}

/* The number as `plans` has it. What is beyond all calls there are is told as the last number. */
static __always_inline __u32 number(__s64 nr, bool compat)
{
	__u32 abi = compat ? TR_COMPAT : TR_NATIVE;

	if (!compat && is_x86((task_p)bpf_get_current_task()) && nr > 0 && nr & X32_SYSCALL_BIT) {
		abi = TR_X32;
		nr &= ~(__s64)X32_SYSCALL_BIT;
	}
	if (nr < 0 || nr >= TR_CALLS)
		nr = TR_CALLS - 1;
	return abi * TR_CALLS + (__u32)nr;
}

#endif

/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Which system calls fork, by number, in each way there is into the kernel. Entry of a call only: raw_tp/sys_enter.
 */
#ifndef PIDWARDEN_CALLS_H
#define PIDWARDEN_CALLS_H

#include "kernel.h"

/* Only x86 has this field. */
static __always_inline bool is_x86(task_p p)
{
	return bpf_core_field_exists(p->thread_info.status);
}

static __always_inline bool in_32_bit_call(task_p p)
{
	if (is_x86(p))
		return BPF_CORE_READ(p, thread_info.status) & TS_COMPAT;
	return BPF_CORE_READ(p, thread_info.flags) & TIF_32BIT;
}

/*
 * Whether it is a fork of another ABI than the machine's own, which the per-call tracepoints do not see: a 32-bit call
 * (int 0x80, sysenter), or one with x32's bit in its number.
 */
static __always_inline bool is_foreign_fork(task_p p, __u64 nr)
{
	if (in_32_bit_call(p))
		return nr == 2 || nr == 120 || nr == 190 || nr == 435; /* i386 and arm: fork, clone, vfork, clone3 */
	if (!(nr & X32_SYSCALL_BIT))
		return false;
	nr &= ~(__u64)X32_SYSCALL_BIT;
	return nr == 56 || nr == 57 || nr == 58 || nr == 435; /* clone, fork, vfork, clone3 */
}

/* Whether it is a fork of the machine's own ABI. */
static __always_inline bool is_native_fork(task_p p, __u64 nr)
{
	if (in_32_bit_call(p))
		return false;
	if (is_x86(p))
		return nr == 56 || nr == 57 || nr == 58 || nr == 435;
	return nr == 220 || nr == 435; /* arm64 and all that came after: clone, clone3 */
}

#endif

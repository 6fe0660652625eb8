// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The kernel side of pidwarden, one object. It keeps the history of processes and holds a family that outgrows its
 * budget; it never judges and never kills.
 *
 *   kernel.h   the kernel types we read        groups.h   families and branches: budget, alarm, hold
 *   abi.h      what crosses into Python        track.h    fork, exec, exit, release: one record per process
 *   maps.h     where it is kept                retain.h   how long the dead are remembered
 *   control.h  what user space wants done      gate.h     where a held family is stopped
 *   ask.h      what user space wants to know   seed.h     those who were there before us
 *   lease.h    what becomes of holds when there is no guard
 *   scope.h    who is meant, where not all are
 *   calls.h    which system calls fork
 */
#include <stdbool.h>
#include <stddef.h>
#include "kernel.h"
#include "abi.h"
#include "maps.h"
#include "scope.h"
#include "groups.h"
#include "retain.h"
#include "track.h"
#include "gate.h"
#include "seed.h"
#include "control.h"
#include "ask.h"
#include "lease.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Puts every enum of abi.h, and the event, into the BTF, from which Python's constants and layouts are generated. */
const volatile struct {
	enum pw_size size;
	enum pw_task_flag task_flag;
	enum pw_proc_flag proc_flag;
	enum pw_group_kind group_kind;
	enum pw_group_flag group_flag;
	enum pw_rule rule;
	enum pw_event_kind event_kind;
	enum pw_config_flag config_flag;
	enum pw_op op;
	enum pw_ask ask;
	struct pw_event event;
} abi_types = {};

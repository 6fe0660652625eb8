/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Stands in for libbpf's header of this name: the same names, answered by ordinary functions of helpers.c. */
#ifndef SIM_BPF_HELPERS_H
#define SIM_BPF_HELPERS_H

#include <linux/bpf.h>
#include <linux/types.h>

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#undef __noinline
#define __noinline __attribute__((noinline))
#ifndef __weak
#define __weak __attribute__((weak))
#endif
#ifndef NULL
#define NULL ((void *)0)
#endif
#define SEC(name)
#define __ksym
#define __uint(name, val) int(*name)[val]
#define __type(name, val) __typeof__(val) *name
#define barrier_var(var) __asm__ volatile("" : "+r"(var))
#define bpf_printk(...) 0

/* Maps are known by the address of their definition. */
void *sim_lookup(const void *map, const void *key);
long sim_update(const void *map, const void *key, const void *value, __u64 flags);
long sim_delete(const void *map, const void *key);
long sim_for_each(const void *map, void *callback, void *ctx, __u64 flags);
long sim_loop(__u32 n, void *callback, void *ctx, __u64 flags);
void *sim_ring_reserve(const void *map, __u64 size, __u64 flags);
void sim_ring_submit(void *record);
void sim_ring_discard(void *record);
__u64 sim_now(void);
__u64 sim_current(void);
long sim_signal(__u32 number);
long sim_read(void *to, __u32 size, const void *from);
long sim_read_str(void *to, __u32 size, const void *from);
__u32 sim_random(void);

#define bpf_map_lookup_elem(map, key) sim_lookup(map, key)
#define bpf_map_update_elem(map, key, value, flags) sim_update(map, key, value, flags)
#define bpf_map_delete_elem(map, key) sim_delete(map, key)
#define bpf_for_each_map_elem(map, callback, ctx, flags) sim_for_each(map, (void *)(callback), ctx, flags)
#define bpf_loop(n, callback, ctx, flags) sim_loop(n, (void *)(callback), ctx, flags)
#define bpf_ringbuf_reserve(map, size, flags) sim_ring_reserve(map, size, flags)
#define bpf_ringbuf_submit(record, flags) sim_ring_submit(record)
#define bpf_ringbuf_discard(record, flags) sim_ring_discard(record)
#define bpf_ktime_get_boot_ns() sim_now()
#define bpf_ktime_get_ns() sim_now()
#define bpf_get_current_task() sim_current()
#define bpf_send_signal(number) sim_signal(number)
#define bpf_send_signal_thread(number) sim_signal(number)
#define bpf_probe_read_kernel(to, size, from) sim_read(to, size, from)
#define bpf_probe_read_kernel_str(to, size, from) sim_read_str(to, size, from)
#define bpf_get_prandom_u32() sim_random()
#define bpf_get_smp_processor_id() 0

/* Timers never go off here. */
static inline long bpf_timer_init(struct bpf_timer *timer, const void *map, int clock)
{
	return 0;
}

static inline long bpf_timer_set_callback(struct bpf_timer *timer, void *callback)
{
	return 0;
}

static inline long bpf_timer_start(struct bpf_timer *timer, __u64 ns, int flags)
{
	return 0;
}

#endif

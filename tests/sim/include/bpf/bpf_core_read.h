/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Stands in for libbpf's header of this name: no relocation, and a read through a null pointer yields 0 as there. */
#ifndef SIM_BPF_CORE_READ_H
#define SIM_BPF_CORE_READ_H

#define bpf_core_field_offset(type, field) __builtin_offsetof(type, field)
#define bpf_core_field_exists(...) 1
#define bpf_core_type_exists(type) 1
#define bpf_core_read(to, size, from) sim_read(to, size, from)
#define bpf_core_read_str(to, size, from) sim_read_str(to, size, from)

#define sim_at(p, field) ((const char *)(p) + __builtin_offsetof(__typeof__(*(p)), field))
#define sim_field(p, field)                                        \
	({                                                         \
		__auto_type sim_p = (p);                           \
		__typeof__(sim_p->field) sim_v;                    \
		sim_read((void *)&sim_v, sizeof(sim_v), sim_at(sim_p, field)); \
		sim_v;                                             \
	})
#define sim_read1(p, a) sim_field(p, a)
#define sim_read2(p, a, b) sim_field(sim_read1(p, a), b)
#define sim_read3(p, a, b, c) sim_field(sim_read2(p, a, b), c)
#define sim_read4(p, a, b, c, d) sim_field(sim_read3(p, a, b, c), d)
#define sim_read5(p, a, b, c, d, e) sim_field(sim_read4(p, a, b, c, d), e)
#define sim_pick(_1, _2, _3, _4, _5, name, ...) name
#define BPF_CORE_READ(p, ...) \
	sim_pick(__VA_ARGS__, sim_read5, sim_read4, sim_read3, sim_read2, sim_read1)(p, __VA_ARGS__)
#define BPF_CORE_READ_INTO(to, p, ...)                                              \
	({                                                                          \
		__auto_type sim_into = BPF_CORE_READ(p, __VA_ARGS__);               \
		__builtin_memcpy((to), &sim_into, sizeof(*(to)));                   \
		0;                                                                  \
	})
#define BPF_CORE_READ_STR_INTO(to, p, field) sim_read_str((void *)(to), sizeof(*(to)), sim_at(p, field))

#endif

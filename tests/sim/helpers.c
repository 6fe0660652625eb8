// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The helpers that BPF programs call, as ordinary functions over ordinary memory.
 *
 * A hash map is the kernel's preallocated one where it matters: max_entries elements and no more, an element keeps its
 * address, a deleted one can be handed out again at once though somebody still holds a pointer to it, and a walk goes
 * bucket by bucket and may be in an element while it is deleted (kernel/bpf/hashtab.c).
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>

#define MAX_MAPS 16
#define MAX_LOOPS (8 * 1024 * 1024) /* BPF_MAX_LOOPS */
#define NONE ((__u32)-1)
#define RING_HEADER 8 /* BPF_RINGBUF_HDR_SZ */

struct map {
	const void *id;
	const char *name;
	__u32 type, key_size, value_size, max_entries, count, buckets;
	__u32 *heads, *nexts;
	__u8 *used;
	__u32 *free; /* a stack: what was freed last is used first */
	char *elements;
	char *ring;
	__u32 ring_used;
};

static struct map maps[MAX_MAPS];
static __u32 n_maps, hash_seed, random_state;
static __u64 now, current;
static __u32 signals, last_signal;

static struct map *find_map(const void *id)
{
	for (__u32 i = 0; i < n_maps; i++)
		if (maps[i].id == id)
			return &maps[i];
	abort();
}

static struct map *named(const char *name)
{
	for (__u32 i = 0; i < n_maps; i++)
		if (!strcmp(maps[i].name, name))
			return &maps[i];
	return NULL;
}

/* Elements are 8-byte aligned: the key, then the value, as in struct htab_elem. */
static __u32 value_at(const struct map *m)
{
	return (m->key_size + 7) & ~7u;
}

static char *element(const struct map *m, __u32 i)
{
	return m->elements + (size_t)i * (value_at(m) + ((m->value_size + 7) & ~7u));
}

static __u32 hash(const struct map *m, const void *key)
{
	const unsigned char *p = key;
	__u32 h = 2166136261u ^ hash_seed;

	for (__u32 i = 0; i < m->key_size; i++)
		h = (h ^ p[i]) * 16777619u;
	h ^= h >> 15;
	return h & (m->buckets - 1);
}

static void empty(struct map *m)
{
	__u32 n = m->max_entries;

	m->buckets = 1;
	while (m->buckets < n)
		m->buckets *= 2;
	free(m->heads), free(m->nexts), free(m->used), free(m->free), free(m->elements), free(m->ring);
	m->heads = malloc(m->buckets * sizeof(__u32));
	m->nexts = malloc(n * sizeof(__u32));
	m->free = malloc(n * sizeof(__u32));
	m->used = calloc(n, 1);
	m->ring = m->type == BPF_MAP_TYPE_RINGBUF ? malloc(n) : NULL;
	m->elements = m->ring ? NULL : calloc(n, value_at(m) + ((m->value_size + 7) & ~7u));
	m->count = m->ring_used = 0;
	for (__u32 i = 0; i < m->buckets; i++)
		m->heads[i] = NONE;
	for (__u32 i = 0; i < n; i++)
		m->free[i] = n - 1 - i;
}

void sim_define(const void *id, const char *name, __u32 type, __u32 key_size, __u32 value_size, __u32 max_entries)
{
	if (n_maps == MAX_MAPS)
		abort();
	maps[n_maps++] = (struct map){.id = id, .name = name, .type = type, .key_size = key_size,
				      .value_size = value_size, .max_entries = max_entries};
}

/* As bpf_map__set_max_entries before the load; 0 on success. */
int sim_resize(const char *name, __u32 max_entries)
{
	struct map *m = named(name);

	if (!m)
		return -1;
	m->max_entries = max_entries;
	return 0;
}

void sim_empty(__u32 seed)
{
	hash_seed = random_state = seed;
	for (__u32 i = 0; i < n_maps; i++)
		empty(&maps[i]);
	now = current = 0;
	signals = last_signal = 0;
}

static __u32 search(const struct map *m, const void *key)
{
	__u32 i = m->heads[hash(m, key)];

	while (i != NONE && memcmp(element(m, i), key, m->key_size))
		i = m->nexts[i];
	return i;
}

static __u32 index_of(const struct map *m, const void *key)
{
	__u32 i;

	if (m->type == BPF_MAP_TYPE_HASH)
		return search(m, key);
	memcpy(&i, key, sizeof(i));
	return i < m->max_entries ? i : NONE;
}

void *sim_lookup(const void *id, const void *key)
{
	struct map *m = find_map(id);
	__u32 i = index_of(m, key);

	return i == NONE ? NULL : element(m, i) + value_at(m);
}

long sim_update(const void *id, const void *key, const void *value, __u64 flags)
{
	struct map *m = find_map(id);
	__u32 i = index_of(m, key), h;

	if (i != NONE) {
		if (flags == BPF_NOEXIST)
			return -EEXIST;
	} else if (flags == BPF_EXIST) {
		return -ENOENT;
	} else if (m->type != BPF_MAP_TYPE_HASH || m->count == m->max_entries) {
		return -E2BIG;
	} else {
		i = m->free[m->max_entries - 1 - m->count++];
		h = hash(m, key);
		memcpy(element(m, i), key, m->key_size);
		m->nexts[i] = m->heads[h];
		m->heads[h] = i;
		m->used[i] = 1;
	}
	memcpy(element(m, i) + value_at(m), value, m->value_size);
	return 0;
}

long sim_delete(const void *id, const void *key)
{
	struct map *m = find_map(id);
	__u32 *at, i;

	if (m->type != BPF_MAP_TYPE_HASH)
		return -EINVAL;
	i = search(m, key);
	if (i == NONE)
		return -ENOENT;
	for (at = &m->heads[hash(m, key)]; *at != i; at = &m->nexts[*at])
		;
	*at = m->nexts[i]; /* its own `next` stays, for a walk that is in it now */
	m->used[i] = 0;
	m->free[m->max_entries - m->count--] = i;
	return 0;
}

long sim_for_each(const void *id, void *callback, void *ctx, __u64 flags)
{
	long (*call)(const void *, void *, void *, void *) = callback;
	struct map *m = find_map(id);
	long visited = 0;
	__u32 next;

	if (flags)
		return -EINVAL;
	for (__u32 b = 0; m->type == BPF_MAP_TYPE_HASH && b < m->buckets; b++)
		for (__u32 i = m->heads[b]; i != NONE; i = next) {
			next = m->nexts[i];
			visited++;
			if (call(id, element(m, i), element(m, i) + value_at(m), ctx))
				return visited;
		}
	for (__u32 i = 0; m->type == BPF_MAP_TYPE_ARRAY && i < m->max_entries; i++, visited++)
		if (call(id, &i, element(m, i) + value_at(m), ctx))
			return visited + 1;
	return visited;
}

long sim_loop(__u32 n, void *callback, void *ctx, __u64 flags)
{
	long (*call)(__u32, void *) = callback;

	if (flags || n > MAX_LOOPS)
		return flags ? -EINVAL : -E2BIG;
	for (__u32 i = 0; i < n; i++)
		if (call(i, ctx))
			return i + 1;
	return n;
}

/* Records stand one after another, each behind its length; the reader takes them all and begins anew. */
void *sim_ring_reserve(const void *id, __u64 size, __u64 flags)
{
	struct map *m = find_map(id);
	__u32 room = RING_HEADER + ((size + 7) & ~7u);
	char *at = m->ring + m->ring_used;

	if (flags || m->ring_used + room > m->max_entries)
		return NULL;
	m->ring_used += room;
	memset(at, 0xa5, room); /* a record is not cleared for its writer */
	memcpy(at, &room, sizeof(room));
	at[4] = 1; /* busy */
	return at + RING_HEADER;
}

void sim_ring_submit(void *record)
{
	((char *)record)[4 - RING_HEADER] = 0;
}

void sim_ring_discard(void *record)
{
	((char *)record)[4 - RING_HEADER] = 2;
}

/* Copies the next submitted record and takes it out; its size with header, 0: none, -1: one was never submitted. */
int sim_ring_take(const char *name, void *to)
{
	struct map *m = named(name);
	__u32 size;

	while (m->ring_used) {
		memcpy(&size, m->ring, sizeof(size));
		if (m->ring[4] == 1)
			return -1;
		memcpy(to, m->ring, size);
		m->ring_used -= size;
		memmove(m->ring, m->ring + size, m->ring_used);
		if (((char *)to)[4] == 0)
			return size;
	}
	return 0;
}

__u64 sim_now(void)
{
	return now;
}

__u64 sim_current(void)
{
	return current;
}

void sim_set_now(__u64 ns)
{
	now = ns;
}

void sim_set_current(void *task)
{
	current = (__u64)task;
}

long sim_signal(__u32 number)
{
	signals++;
	last_signal = number;
	return 0;
}

/* Signals sent since the last question; the number of the last one in the high half. */
__u64 sim_take_signals(void)
{
	__u64 found = (__u64)last_signal << 32 | signals;

	signals = last_signal = 0;
	return found;
}

__u32 sim_random(void)
{
	return random_state = random_state * 1664525u + 1013904223u;
}

long sim_read(void *to, __u32 size, const void *from)
{
	if ((__u64)from < 4096) {
		memset(to, 0, size);
		return -EFAULT;
	}
	memcpy(to, from, size);
	return 0;
}

long sim_read_str(void *to, __u32 size, const void *from)
{
	__u32 n;

	if (!size || (__u64)from < 4096) {
		memset(to, 0, size);
		return -EFAULT;
	}
	n = strnlen(from, size - 1);
	memcpy(to, from, n);
	((char *)to)[n] = 0;
	return n + 1;
}

/* What tests look at. */
int sim_count(const char *name)
{
	return named(name)->count;
}

__u32 sim_size(const char *name, int value)
{
	return value ? named(name)->value_size : named(name)->key_size;
}

void *sim_find(const char *name, const void *key)
{
	return sim_lookup(named(name)->id, key);
}

int sim_put(const char *name, const void *key, const void *value)
{
	return sim_update(named(name)->id, key, value, BPF_ANY);
}

/* Key and value of each element of a hash map, one after another; how many. */
int sim_dump(const char *name, char *to)
{
	struct map *m = named(name);
	__u32 n = 0;

	for (__u32 i = 0; i < m->max_entries; i++) {
		if (!m->used[i])
			continue;
		memcpy(to, element(m, i), m->key_size);
		memcpy(to + m->key_size, element(m, i) + value_at(m), m->value_size);
		to += m->key_size + m->value_size;
		n++;
	}
	return n;
}

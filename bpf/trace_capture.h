/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What arguments point to, copied behind an event as pieces. The functions that are not static get numbers alone, so that
 * the verifier looks at each once, not at each way to it; they share the processor's scratch, in which the event lies.
 */
#ifndef PIDWARDEN_TRACE_CAPTURE_H
#define PIDWARDEN_TRACE_CAPTURE_H

#include "trace_maps.h"

#define IOVEC_BYTES 16 /* struct iovec of a 64-bit program (include/uapi/linux/uio.h) */
#define MOST_VARIABLES 1024
#define MOST_ENTRIES 2048 /* 32 KiB, which is what libraries ask for, have at most 1,365 */
#define MOST_NAME 128 /* sizeof(struct sockaddr_storage) */
#define MOST_CONTROL 256

struct msghdr_words { /* struct user_msghdr of a 64-bit program (include/linux/socket.h) */
	__u64 name;
	__u64 name_bytes; /* an int and padding */
	__u64 iov;
	__u64 iov_count;
	__u64 control;
	__u64 control_bytes;
	__u64 flags;
};

/* Room for a piece of up to TR_PIECE_BYTES bytes; NULL if there is none. */
static __always_inline struct tr_piece *begin_piece(struct scratch *s)
{
	__u32 at = s->at;

	if (at > TR_DATA_BYTES)
		return NULL;
	return (struct tr_piece *)&s->data[at];
}

static __always_inline void end_piece(struct scratch *s, struct tr_piece *p, __u32 arg, __u32 part, __u32 size,
				      __u32 flags)
{
	p->arg = arg;
	p->flags = flags;
	p->size = size;
	p->part = part;
	p->pad = 0;
	s->at += sizeof(*p) + ((size + 7) & ~7u);
}

/* `size` bytes at `from`, as one piece. Whether they could be read. */
__noinline int copy_bytes(__u32 where, __u64 from, __u64 size, __u32 most)
{
	struct scratch *s = get_scratch();
	struct tr_piece *p = s ? begin_piece(s) : NULL;
	__u32 flags, n;

	if (!s || !p)
		return 0;
	if (most > TR_PIECE_BYTES)
		most = TR_PIECE_BYTES;
	n = size > most ? most : size;
	flags = size > most ? TR_CUT : 0;
	barrier_var(n);
	if (n > TR_PIECE_BYTES) /* for verifiers before 6.3, to which a minimum says nothing */
		return 0;
	if (bpf_probe_read_user(p + 1, n, (void *)from)) {
		end_piece(s, p, where & 0xff, where >> 8, 0, TR_FAULT);
		return 0;
	}
	end_piece(s, p, where & 0xff, where >> 8, n, flags);
	return 1;
}

__noinline int copy_string(__u32 where, __u64 from, __u32 most)
{
	struct scratch *s = get_scratch();
	struct tr_piece *p = s ? begin_piece(s) : NULL;
	__u32 flags = 0;
	char last = 0;
	long n;

	if (!s || !p)
		return 0;
	if (most > TR_PIECE_BYTES)
		most = TR_PIECE_BYTES;
	n = bpf_probe_read_user_str(p + 1, most, (void *)from);
	if (n <= 0 || n > TR_PIECE_BYTES) {
		end_piece(s, p, where & 0xff, where >> 8, 0, TR_FAULT);
		return 0;
	}
	if (n == most && !bpf_probe_read_user(&last, 1, (void *)(from + n - 1)) && last)
		flags = TR_CUT;
	end_piece(s, p, where & 0xff, where >> 8, n - 1, flags);
	return 1;
}

__noinline int copy_strings(__u32 arg, __u64 from, __u32 most)
{
	struct scratch *s = get_scratch();
	__u64 pointer = 0;

	if (!s)
		return 0;
	for (__u32 i = 0; i <= TR_MANY; i++) {
		struct tr_piece *p;

		if (bpf_probe_read_user(&pointer, 8, (void *)(from + 8 * i))) {
			if (!(p = begin_piece(s)))
				return 0;
			end_piece(s, p, arg, i + 1, 0, TR_FAULT);
			return 0;
		}
		if (!pointer)
			return 1;
		if (i == TR_MANY) {
			if ((p = begin_piece(s)))
				end_piece(s, p, arg, i + 1, 0, TR_CUT);
			return 1;
		}
		copy_string(arg | (i + 1) << 8, pointer, most);
	}
	return 1;
}

__noinline int count_strings(__u32 arg, __u64 from)
{
	struct scratch *s = get_scratch();
	struct tr_piece *p = s ? begin_piece(s) : NULL;
	__u64 pointer = 0;
	__u32 n = 0;

	if (!s || !p)
		return 0;
	for (; n < MOST_VARIABLES; n++) {
		if (bpf_probe_read_user(&pointer, 8, (void *)(from + 8 * n))) {
			end_piece(s, p, arg, 0, 0, TR_FAULT);
			return 0;
		}
		if (!pointer)
			break;
	}
	*(__u32 *)(p + 1) = n;
	end_piece(s, p, arg, 0, sizeof(n), n == MOST_VARIABLES ? TR_CUT : 0);
	return 1;
}

__noinline int count_entries(__u32 arg, __u64 from, __u64 bytes, __u32 where)
{
	struct scratch *s = get_scratch();
	struct tr_piece *p = s ? begin_piece(s) : NULL;
	__u16 length = 0;
	__u64 at = 0;
	__u32 n = 0;

	if (!s || !p)
		return 0;
	for (; n < MOST_ENTRIES && at < bytes; n++) {
		if (bpf_probe_read_user(&length, sizeof(length), (void *)(from + at + where)) || !length)
			break;
		at += length;
	}
	*(__u32 *)(p + 1) = n;
	end_piece(s, p, arg, 0, sizeof(n), at < bytes ? TR_CUT : 0);
	return 1;
}

/* The iovecs, as piece `part`, and what they point to: `most` bytes of each, `left` in all. */
__noinline int copy_iovec(__u32 where, __u64 from, __u64 count, __u64 most_left)
{
	__u32 arg = where & 0xff, most = most_left >> 48;
	__u64 left = most_left << 16 >> 16;

	if (!copy_bytes(where, from, count > TR_MANY ? TR_MANY * IOVEC_BYTES + 1 : count * IOVEC_BYTES,
			TR_MANY * IOVEC_BYTES))
		return 0;
	if (!most)
		return 1;
	for (__u32 i = 0; i < TR_MANY && i < count && left; i++) {
		__u64 vec[2] = {};

		if (bpf_probe_read_user(vec, sizeof(vec), (void *)(from + IOVEC_BYTES * i)))
			return 0;
		if (vec[1] > left)
			vec[1] = left;
		left -= vec[1];
		if (vec[1])
			copy_bytes(arg | (i + 1) << 8, vec[0], vec[1], most);
	}
	return 1;
}

__noinline int copy_msghdr(__u32 arg, __u64 from, __u64 most_left)
{
	struct msghdr_words m = {};

	if (!copy_bytes(arg, from, sizeof(m), sizeof(m)))
		return 0;
	if (bpf_probe_read_user(&m, sizeof(m), (void *)from))
		return 0;
	if (m.name && (__u32)m.name_bytes)
		copy_bytes(arg | TR_NAME << 8, m.name, (__u32)m.name_bytes, MOST_NAME);
	if (m.control && m.control_bytes)
		copy_bytes(arg | TR_CONTROL << 8, m.control, m.control_bytes, MOST_CONTROL);
	return !m.iov || copy_iovec(arg | TR_IOV << 8, m.iov, m.iov_count, most_left);
}

/* What `by` says, in elements or bytes. */
static __always_inline __u64 amount(struct scratch *s, __u32 by)
{
	__u32 i = (by - TR_BY_ARG) % 8, word = 0;

	if (by == TR_BY_RESULT)
		return s->event.ret > 0 ? s->event.ret : 0;
	if (i >= TR_ARGS)
		return 0;
	if (by < TR_BY_RESULT)
		return s->event.args[i];
	i = (by - TR_BY_WORD) % 8;
	if (i >= TR_ARGS || bpf_probe_read_user(&word, sizeof(word), (void *)s->event.args[i]))
		return 0;
	return word;
}

/* Argument `arg` of the event in the scratch. Whether it could be read. */
__noinline int capture(__u32 nr, __u32 arg)
{
	struct tr_plan *plan = bpf_map_lookup_elem(&plans, &nr);
	__u64 from, size, left = ~0ull >> 16;
	struct scratch *s = get_scratch();
	struct tr_capture *c;
	__u32 most;

	if (!plan || !s || arg >= TR_ARGS)
		return 1;
	c = &plan->args[arg];
	most = c->most;
	from = s->event.args[arg];
	if (!from)
		return 1;
	switch (c->kind) {
	case TR_STRING:
		return copy_string(arg, from, most);
	case TR_STRINGS:
		return most ? copy_strings(arg, from, most) : count_strings(arg, from);
	case TR_ENTRIES:
		return count_entries(arg, from, amount(s, c->by), c->size);
	case TR_BYTES:
		size = c->by ? amount(s, c->by) * (c->unit ? c->unit : 1) : c->size;
		return !size || copy_bytes(arg, from, size, most ? most : TR_PIECE_BYTES);
	case TR_IOVEC:
	case TR_MSGHDR:
		if (s->event.kind == TR_RETURN && c->when & TR_AT_RETURN && s->event.ret >= 0)
			left = s->event.ret;
		left |= (__u64)most << 48;
		if (c->kind == TR_MSGHDR)
			return copy_msghdr(arg, from, left);
		return copy_iovec(arg, from, amount(s, c->by), left);
	}
	return 1;
}

#endif

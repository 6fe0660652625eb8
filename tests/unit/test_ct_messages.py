"""ctnetlink's bytes: dumps, refusals, what is broken, and entries of every sort in columns."""

import contextlib
import errno
import ipaddress
import socket

import ctmessages as made
import pytest
from ctmessages import GRE, ICMP, ICMPV6, SCTP, TCP, UDP, attribute, done, entry, message
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.errors import NoPermission, NotPossible, PidwardenError
from pidwarden.kernel import conntrack, ctentries
from pidwarden.kernel.nfnetlink import GET, Link, Malformed
from pidwarden.model.conntrack import FIELDS
from pidwarden.model.cttally import address


class Kernel:
    """A socket that answers what it was given: bytes, an error, or bytes with flags and a sender."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []
        self.closed = False

    def settimeout(self, seconds):
        assert seconds > 0

    def sendto(self, data, where):
        assert where == (0, 0)
        self.sent.append(data)

    def recvmsg(self, size):
        assert size >= 32768
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, tuple) else (found, [], 0, (0, 0))

    def close(self):
        self.closed = True


def dumped(*answers):
    link = Link(Kernel(*answers))
    return link, [m for batch in link.dump(GET) for m in batch]


def number(text):
    return int(ipaddress.IPv4Address(text))


def columns(*messages, fields=tuple(FIELDS)):
    parser = ctentries.Parser(fields)
    found = [*parser.feed(list(messages)), *parser.rest()]
    rows = [
        dict(zip(fields, row, strict=True)) for c in found for row in zip(*(list_of(c, f) for f in fields), strict=True)
    ]
    return parser, rows


def list_of(batch, field):
    return [value for value, _n in zip(batch.of(field), range(batch.size), strict=False)]


# -- the socket --------------------------------------------------------------------------------------------------------


def test_a_dump_is_all_messages_up_to_its_end():
    first, second, third = (entry(sport=n) for n in (1, 2, 3))
    link, found = dumped(first + second, third + done())
    assert found == [first, second, third]
    assert not link.interrupted
    assert not link.overruns


def test_a_dump_asks_for_every_family():
    kernel = Kernel(done())
    assert not list(Link(kernel).dump(GET))
    (sent,) = kernel.sent
    assert sent[4:8] == bytes([1, 1, 1, 3])  # get, conntrack; request, root and match
    assert sent[16] == socket.AF_UNSPEC


def test_a_change_under_the_dump_is_told():
    link, found = dumped(entry(flags=made.MULTI | made.INTERRUPTED), done())
    assert len(found) == 1
    assert link.interrupted


def test_what_the_kernel_could_not_queue_is_counted_and_the_rest_is_read():
    link, found = dumped(entry(), OSError(errno.ENOBUFS, "no room"), entry(sport=7), done())
    assert len(found) == 2
    assert link.overruns == 1


def test_what_is_of_another_dump_or_of_a_process_is_not_taken():
    stranger = (entry(sport=9), [], 0, (4711, 0))
    _link, found = dumped(entry(sequence=77), done(sequence=77), stranger, entry(sport=5), done())
    assert found == [entry(sport=5)]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EPERM, NoPermission),
        (errno.EINVAL, NotPossible),
        (errno.EOPNOTSUPP, NotPossible),
        (errno.EIO, PidwardenError),
    ],
)
def test_a_refusal_says_what_to_type(code, error):
    with pytest.raises(error) as why:
        dumped(done(code=-code, kind=2))
    assert "type" in str(why.value)
    assert type(why.value) is error


def test_no_answer_is_no_hang():
    with pytest.raises(PidwardenError, match="did not answer"):
        dumped(TimeoutError())


@pytest.mark.parametrize("cut", [1, 15, 17, 40])
def test_a_datagram_that_breaks_off(cut):
    with pytest.raises(Malformed, match=r"byte 0 of|breaks off"):
        dumped(entry()[:cut])


def test_a_length_that_leads_nowhere():
    with pytest.raises(Malformed):
        dumped(b"\0\0\0\0" + entry()[4:])
    with pytest.raises(Malformed):
        dumped((entry(), [], socket.MSG_TRUNC, (0, 0)))


# -- entries -----------------------------------------------------------------------------------------------------------


def test_entries_of_every_sort():
    _parser, rows = columns(
        entry(TCP, state=3, status=14, timeout=431_999, mark=5, zone=7),
        entry(UDP, "2001:db8::1", "2001:db8::2", 53, 4000, timeout=30),
        entry(ICMP, sport=99, timeout=30),
        entry(ICMPV6, "fe80::1", "fe80::2", sport=99, timeout=30),
        entry(SCTP, state=4, timeout=210),
        entry(GRE, timeout=30),
        entry(132 + 1, timeout=600),
        entry(TCP, state=1, reply_src="10.9.9.9", status=16 | 8),
    )
    tcp, udp6, icmp, icmp6, sctp, gre, other, nat = sorted(rows, key=_order)
    assert tcp["src"] == number("10.0.0.1")
    assert (tcp["state"], tcp["status"], tcp["timeout"], tcp["mark"], tcp["zone"]) == (3, 14, 431_999, 5, 7)
    assert (udp6["family"], address(udp6["src"]), udp6["sport"], udp6["dport"]) == (10, "2001:db8::1", 53, 4000)
    assert (icmp["icmp"], icmp["sport"], icmp["dport"], icmp["state"]) == (8, -1, -1, -1)
    assert icmp6["icmp"] == 128
    assert (sctp["proto"], sctp["state"]) == (SCTP, 4)
    assert (gre["proto"], gre["dport"]) == (GRE, -1)
    assert (other["proto"], other["timeout"]) == (133, 600)
    assert address(nat["reply_src"]) == "10.9.9.9"
    assert nat["status"] & made.SNAT


_SORTS = (TCP, UDP, ICMP, ICMPV6, SCTP, GRE, 133)


def _order(row):
    return _SORTS.index(row["proto"]) + (100 if row["status"] == 24 else 0)


def test_a_message_of_the_same_length_and_other_attributes_is_of_another_shape():
    one = entry(UDP, extra=made.number(8, 42))  # a mark
    other = entry(UDP, extra=made.number(12, 42))  # the same place, but an id
    assert len(one) == len(other)
    _parser, rows = columns(one, other, one)
    assert sorted(row["mark"] for row in rows) == [0, 42, 42]


def test_a_broken_attribute_is_left_out_and_counted():
    broken = bytearray(entry())
    broken[20:22] = (5000).to_bytes(2, "little")
    short = message(b"\x02\0")
    parser, rows = columns(bytes(broken), short, entry(sport=9))
    assert [row["sport"] for row in rows] == [9]
    assert parser.malformed == 2


def test_numbers_of_another_length_are_as_if_they_were_not_there():
    body = b"\x02\0\0\0" + attribute(3, b"\0") + attribute(7, b"\0" * 8) + made.nest(2, made.nest(1, attribute(1, b"")))
    parser, rows = columns(message(body), message(b"\x02\0\0\0" + made.nest(1, made.nest(2, attribute(1, b"")))))
    assert not parser.malformed
    assert [(row["status"], row["timeout"], row["src"], row["proto"]) for row in rows] == [(0, -1, b"", 0)] * 2


def test_only_what_is_asked_for_is_read():
    _parser, rows = columns(entry(dport=443), fields=("dport", "proto"))
    assert rows == [{"dport": 443, "proto": TCP}]


def test_shapes_without_end_do_not_fill_the_memory():
    several = [entry(sport=n, extra=attribute(99, b"x" * n)) for n in range(ctentries._SHAPES + 50)]
    parser, rows = columns(*several)
    assert sorted(row["sport"] for row in rows) == list(range(len(several)))
    assert parser._known <= ctentries._SHAPES


def test_a_batch_is_given_when_there_is_enough():
    parser = ctentries.Parser()
    found = list(parser.feed([entry(sport=n) for n in range(ctentries.BATCH)]))
    assert [batch.size for batch in found] == [ctentries.BATCH]
    assert not list(parser.rest())


@given(st.binary(max_size=200))
def test_whatever_the_bytes_no_reader_crashes(data):
    columns(message(data))
    for answer in (data, message(data), message(data, kind=2)):
        try:
            dumped(answer, done())
        except PidwardenError:
            continue
    with contextlib.suppress(Malformed):
        conntrack.parse_counters(message(data))
    conntrack.parse_stat(data)


# -- counters ----------------------------------------------------------------------------------------------------------

_TODAY = b"""entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop \
icmp_error expect_new expect_create expect_delete search_restart
00000007  00000001 00000002 00000000 00000003 00000000 00000000 00000004 00000005 00000006 00000007 00000008 00000009  \
00000000 00000000 00000000 0000000a
00000007  00000010 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000  \
00000000 00000000 00000000 00000000
"""
_OLD = b"""entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop \
icmp_error expect_new expect_create expect_delete search_restart
00000007  000000ff 00000002 000000ff 00000003 000000ff 000000ff 000000ff 00000005 00000006 00000007 00000008 00000009  \
00000000 00000000 00000000 0000000a
"""


def test_columns_are_found_by_their_names():
    found = conntrack.parse_stat(_TODAY)
    assert found[0] == {
        "clash_resolve": 1, "found": 2, "invalid": 3, "chain_too_long": 4, "insert": 5, "insert_failed": 6, "drop": 7,
        "early_drop": 8, "error": 9, "search_restart": 10,
    }  # fmt: skip
    assert found[1]["clash_resolve"] == 16


def test_an_old_kernels_columns_are_not_taken_for_todays():
    (found,) = conntrack.parse_stat(_OLD).values()
    assert "clash_resolve" not in found
    assert "chain_too_long" not in found
    assert (found["drop"], found["search_restart"]) == (7, 10)


def test_counters_by_netlink():
    body = b"\0\0" + (3).to_bytes(2, "big") + made.number(9, 6) + made.number(15, 2) + made.number(1, 99)
    assert conntrack.parse_counters(message(body)) == (3, {"insert_failed": 6, "chain_too_long": 2})


# -- addresses ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**128 - 1) | st.integers(0, 2**32 - 1).map(lambda n: n << 64))
def test_addresses_are_written_as_the_standard_says(number_):
    packed = number_.to_bytes(16, "big")
    assert address(packed) in (str(ipaddress.IPv6Address(packed)), ipaddress.IPv6Address(packed).compressed)


def test_addresses_of_four_bytes():
    assert address(number("192.0.2.1")) == "192.0.2.1"
    assert address(b"") == "-"

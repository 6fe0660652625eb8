"""Connection tracking by values: what is the matter, what would help, what it takes of memory, how chains are."""

import argparse
import sys
import types

import pytest

from pidwarden.cli import conntrack as command
from pidwarden.cli import conntrack_look, main
from pidwarden.diagnose import conntrack as diagnosis
from pidwarden.diagnose import ctadvice
from pidwarden.diagnose.conntrack import Kind
from pidwarden.errors import NotPossible, UsageError
from pidwarden.kernel import conntrack, conntrack_size, ctmemory, netns, nfnetlink
from pidwarden.model import cttally
from pidwarden.model.conntrack import Columns, Memory, Reading, chains
from pidwarden.model.cttally import Counts, Tally

SECOND = 1_000_000_000
UNKNOWN = Memory(None, None, None, why="not asked")
TIMEOUTS = {"tcp_timeout_established": 432_000, "tcp_timeout_syn_sent": 120, "udp_timeout": 30, "generic_timeout": 7200}


def reading(count=100, maximum=10_000, ns=0, buckets=10_000, **counters):
    zero = dict.fromkeys(("drop", "early_drop", "insert_failed", "chain_too_long", "clash_resolve"), 0)
    return Reading(ns, 1, count, maximum, buckets, {0: zero | counters}, "test", TIMEOUTS, {})


def findings(before, after, memory=UNKNOWN, tally=None):
    return diagnosis.diagnose(after, diagnosis.change(before, after._replace(ns=SECOND)), memory, tally)


def kinds(*arguments, **options):
    return [finding.kind for finding in findings(*arguments, **options)]


def tally(*several, by=()):
    """Of (count, proto, state, status, timeout, srcs, dsts, dport)."""
    found = Tally(by)
    for count, proto, state, status, timeout, sources, targets, dport in several:
        values = {
            "src": [1000 + n % sources for n in range(count)],
            "dst": [5000 + n % targets for n in range(count)],
            "status": [status] * count,
        }
        constants = {
            "family": 2, "proto": proto, "state": state, "timeout": timeout, "dport": dport, "sport": 1, "mark": 0,
            "zone": 0, "icmp": -1, "reply_src": b"", "reply_dst": b"",
        }  # fmt: skip
        found.add(Columns(count, values, constants))
    return found


# -- without a walk ----------------------------------------------------------------------------------------------------


def test_all_is_well():
    (found,) = findings(reading(), reading(101))
    assert found.kind is Kind.FINE


def test_nothing_is_tracked():
    (found,) = findings(reading(0), reading(0))
    assert "no rule" in found.sentence


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (reading(10_000), reading(10_000), Kind.FULL),
        (reading(9_700, drop=3), reading(9_700, drop=9), Kind.FULL),
        (reading(9_700), reading(9_700, early_drop=9), Kind.FULL),
        (reading(1_000), reading(1_200), Kind.FILLING),
        (reading(8_500), reading(8_500), Kind.NEAR),
        (reading(), reading(early_drop=2), Kind.EARLY_DROP),
        (reading(), reading(drop=2), Kind.DROPPED),
        (reading(), reading(drop=2, chain_too_long=2), Kind.CHAINS),
        (reading(), reading(insert_failed=2), Kind.NAT_RACE),
        (reading(9_000), reading(9_000, buckets=2_000), Kind.CHAINS),
    ],
)
def test_what_is_the_matter(before, after, kind):
    assert kind in kinds(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (reading(9_700, drop=3), reading(9_700, drop=3)),  # dropped long ago
        (reading(100, insert_failed=7), reading(100, insert_failed=7)),
        (reading(10, maximum=0), reading(5_000, maximum=0)),  # no limit
        (reading(1_000), reading(1_004)),
        (reading(1_000), reading(900)),
        (reading(1, maximum=10_000_000), reading(1_001, maximum=10_000_000)),
    ],
)
def test_what_is_not_said(before, after):
    assert not {Kind.FULL, Kind.FILLING, Kind.NAT_RACE, Kind.DROPPED} & set(kinds(before, after))


def test_a_packet_that_lost_a_race_is_told_of_once():
    assert kinds(reading(), reading(insert_failed=2, drop=2)) == [Kind.NAT_RACE]
    assert kinds(reading(), reading(insert_failed=2, drop=3)) == [Kind.DROPPED, Kind.NAT_RACE]


def test_a_race_is_not_told_of_a_table_that_is_short_of_room():
    assert Kind.NAT_RACE not in kinds(reading(9_000), reading(9_000, insert_failed=4))


def test_time_to_full():
    seen = diagnosis.change(reading(1_000), reading(1_090, ns=SECOND))
    assert diagnosis.fills_in(reading(1_090), seen) == pytest.approx(99.0)


def test_another_namespace_is_not_compared():
    assert diagnosis.change(reading(), reading(5_000, ns=SECOND)._replace(inode=2)) == diagnosis.NO_CHANGE


def test_entries_of_all_namespaces_make_the_chains():
    memory = Memory(90_000, 256.0, 80_000)
    assert Kind.CHAINS in kinds(reading(), reading(), memory=memory)


# -- with one ----------------------------------------------------------------------------------------------------------

GOOD = (1_000, 6, 3, 14, 431_000, 50, 50, 443)


def test_a_scan():
    found = findings(reading(), reading(), tally=tally((5_000, 6, 1, 8, 100, 2, 5_000, 22), GOOD))
    (scan,) = found
    assert scan.kind is Kind.SCANNED
    assert "0.0.3.232 2500" in scan.sentence
    assert "5000 of 6000" in scan.evidence[0]


def test_a_flood():
    (found,) = findings(reading(), reading(), tally=tally((5_000, 6, 1, 8, 100, 5_000, 1, 80), GOOD))
    assert found.kind is Kind.FLOODED
    assert "tcp/80 5000" in found.sentence


def test_a_leak_and_which_timeout():
    world = reading()
    (found,) = findings(world, world, tally=tally((2_000, 6, 3, 14, 300_000, 50, 50, 443), GOOD))
    assert (found.kind, found.timeout) == (Kind.LEAKING, "tcp_timeout_established")
    assert "2000 of 3000" in found.sentence
    (advice, _off) = ctadvice.advise([found], world, UNKNOWN, tally((2_000, 6, 3, 14, 300_000, 50, 50, 443), GOOD))
    assert advice.commands == ("sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=8000",)


@pytest.mark.parametrize(
    "several",
    [
        [GOOD],
        [(100, 6, 1, 8, 100, 1, 100, 22)],  # too few to say anything
        [(3_000, 6, 3, 14, 500_000, 9, 9, 80)],  # more left than the setting gives: set by something else
        [(3_000, 17, -1, 14, 100, 9, 9, 53)],
    ],
)
def test_no_leak_and_no_scan(several):
    assert kinds(reading(), reading(), tally=tally(*several)) == [Kind.FINE]


def test_rows_are_the_largest_and_the_same_every_time():
    found = tally((30, 6, 3, 14, 1, 3, 1, 80), (5, 17, -1, 0, 1, 1, 1, 53), by=[("proto", "state", "status"), ("src",)])
    assert found.rows(("proto", "state", "status"), 9) == [
        (30, ("tcp", "ESTABLISHED", "assured")),
        (5, ("udp", "-", "unreplied")),
    ]
    assert found.rows(("src",), 2) == [(15, ("0.0.3.232",)), (10, ("0.0.3.233",))]


def test_a_count_is_bounded_and_who_is_seen_often_stays(monkeypatch):
    monkeypatch.setattr(cttally, "MOST", 100)
    monkeypatch.setattr(cttally, "KEPT", 10)
    counts = Counts()
    for start in range(0, 1_000, 50):
        counts.add([[*range(start, start + 50), *[-1] * 20]], 70)
    assert counts.most(1) == [((-1,), 400)]
    assert counts.total == 1_400
    assert 0 < counts.lost == counts.total - counts.all().total()


# -- advice ------------------------------------------------------------------------------------------------------------


def test_what_is_set_in_another_namespace_is_typed_within():
    advice = ctadvice.Advice("", "", ("sysctl -w a=1", "pidwarden conntrack resize --max 5", "nft list ruleset"), ())
    assert ctadvice.there(advice, "/run/netns/a b").commands == (
        "nsenter --net='/run/netns/a b' sysctl -w a=1", "pidwarden conntrack resize --max 5",
        "nsenter --net='/run/netns/a b' nft list ruleset",
    )  # fmt: skip


def test_nothing_is_advised_when_all_is_well():
    world = reading()
    assert not ctadvice.advise(findings(world, world), world, UNKNOWN, tally(GOOD))


def test_a_full_table_and_what_a_larger_one_takes():
    world, memory = reading(10_000), Memory(10_000, 256.0, 80_000, 128, 10_000)
    (advice,) = ctadvice.advise(findings(world, world), world, memory, None)
    assert advice.commands == ("pidwarden conntrack resize --max 20000 --buckets 20000 --dry-run",)
    assert "7 MiB" in advice.breaks[0]


def test_tracking_is_not_to_go_where_addresses_are_translated():
    world = reading(10_000)
    several = [tally(GOOD), tally(GOOD, (5, 6, 3, 14 | 16, 431_000, 1, 1, 80))]
    said = [[a.what for a in ctadvice.advise(findings(world, world), world, UNKNOWN, t)] for t in several]
    assert ["no tracking at all" in words for words in said] == [True, False]


def flows_of(text, *several):
    wanted = conntrack_look._flow_set(text)
    return ctadvice.notrack(wanted, ctadvice.flows(wanted, tally(*several, by=[ctadvice.FLOW_FIELDS])))


def test_rules_for_flows_without_tracking():
    found = flows_of("udp/53", (40, 17, -1, 10, 20, 3, 1, 53), GOOD)
    assert found.reason == "40 of 1040 entries are of it, 40 of them answered"
    assert "nft add rule inet pidwarden_notrack prerouting udp dport 53 notrack" in found.commands
    assert "nft add rule inet pidwarden_notrack output udp sport 53 notrack" in found.commands
    assert "ip6tables -t raw -A OUTPUT -p udp --sport 53 -j CT --notrack" in found.commands
    assert not any("BREAK" in text for text in found.breaks)


def test_flows_to_one_address_that_are_translated():
    found = flows_of("tcp/443@0.0.19.136", (40, 6, 3, 14 | 32, 20, 3, 1, 443), (9, 6, 3, 14, 20, 3, 9, 443))
    assert found.reason.startswith("41 of 49")
    assert "40 of them have an address translated" in found.breaks[0]
    assert "nft add rule inet pidwarden_notrack prerouting ip daddr 0.0.19.136 tcp dport 443 notrack" in found.commands
    assert not any(command.startswith("ip6tables") for command in found.commands)


def test_answers_of_others_that_are_redirected_match_too():
    found = flows_of("udp/53", (30, 17, -1, 10 | 32, 20, 3, 1, 5353), GOOD)
    assert found.reason.startswith("0 of 1030")
    assert found.breaks[0].startswith("30 others have their destination translated")
    assert not any("BREAK" in text for text in flows_of("udp/53", (30, 17, -1, 10 | 16, 20, 3, 1, 5353)).breaks)


def test_flows_without_ports():
    assert "nft add rule inet pidwarden_notrack output meta l4proto icmp notrack" in flows_of("icmp", GOOD).commands


@pytest.mark.parametrize(
    "text",
    ["", "foo/1", "udp/", "udp/0", "udp/65536", "udp/x", "icmp/8", "udp/53@", "udp/53@nowhere", "udp/\u0665", "udp/\n"],
)
def test_flows_that_are_none(text):
    with pytest.raises(UsageError, match="--notrack"):
        conntrack_look._flow_set(text)


@pytest.mark.parametrize("text", [",", "src,\x1b[31m", "port"])
def test_breakdowns_that_are_none(text):
    with pytest.raises(UsageError) as why:
        conntrack_look._breakdown(text)
    assert str(why.value).isprintable()


# -- memory and chains -------------------------------------------------------------------------------------------------

_SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables …
nf_conntrack      {entries} 4000 248 16 1 : tunables 0 0 0 : slabdata 1 1 0
kmalloc-cg-128     9999 9999 128 32 1 : tunables 0 0 0 : slabdata 1 1 0
dma-kmalloc-128     999 999 128 32 1 : tunables 0 0 0 : slabdata 1 1 0
kmalloc-rnd-07-128  150 160 128 32 1 : tunables 0 0 0 : slabdata 1 1 0
kmalloc-128         100 128 128 32 1 : tunables 0 0 0 : slabdata 1 1 0
kmalloc-96         5000 5000 96 42 1 : tunables 0 0 0 : slabdata 1 1 0
"""


def memory_of(tmp_path, entries, *, always=False):
    (tmp_path / "slabinfo").write_text(_SLABINFO.format(entries=entries))
    return ctmemory.memory(1024, always_extended=always, root=str(tmp_path))


def test_memory_of_entries_whose_blocks_are_not_known_is_at_most_that(tmp_path):
    found = memory_of(tmp_path, 3_200)
    assert (found.each, found.block, found.extended, found.certain) == (256.0, 128, 250, False)
    assert found.total == 3_200 * 256 + 250 * 128
    assert found.array == 8192


def test_memory_of_entries_that_all_have_a_block(tmp_path):
    found = memory_of(tmp_path, 3_200, always=True)
    assert found.total == 3_200 * 384
    assert found.of(1_000) == 384_000


def test_memory_of_a_table_that_is_empty_is_told_with_blocks(tmp_path):
    assert memory_of(tmp_path, 0).of(1_000) == 384_000


def test_a_plan_counts_an_entry_with_the_block_of_this_kernel(tmp_path):
    folder = tmp_path / conntrack.SYSCTL
    folder.mkdir(parents=True)
    for name, number in (("max", 2_000), ("buckets", 1_024), ("count", 7)):
        (folder / f"nf_conntrack_{name}").write_text(f"{number}\n")
    assert conntrack_size.read(str(tmp_path)) == (2_000, 1_024, 7, None)
    larger = _SLABINFO.replace("128 32 1", "192 21 1").format(entries=0)
    for text, each in ((_SLABINFO.format(entries=0), 256 + 128), (larger, 256 + 192)):
        (tmp_path / "slabinfo").write_text(text)
        assert conntrack_size.read(str(tmp_path)).entry_bytes == each


def test_memory_that_is_not_shown(tmp_path):
    found = ctmemory.memory(1024, always_extended=False, root=str(tmp_path))
    assert found.total is None
    assert "slabinfo" in found.why
    (tmp_path / "slabinfo").write_text("slabinfo - version: 2.1\n")
    assert "nf_conntrack" in ctmemory.memory(1, always_extended=False, root=str(tmp_path)).why


def test_chains():
    assert chains(262_144, 262_144, 0).mean == 2.0
    assert 8 <= chains(262_144, 262_144, 0).expected <= 14
    assert chains(0, 262_144, None).expected == 0
    assert chains(10**9, 1024, 0).expected > 0  # no endless search


# -- where there is none -----------------------------------------------------------------------------------------------


def test_not_loaded(tmp_path):
    why = conntrack.missing(str(tmp_path), str(tmp_path))
    assert why.startswith("nf_conntrack is not loaded")
    with pytest.raises(NotPossible):
        conntrack.read(str(tmp_path))


def test_loaded_and_hidden(tmp_path):
    (tmp_path / "nf_conntrack").touch()
    assert "does not show it" in conntrack.missing(str(tmp_path / "proc"), str(tmp_path))


def test_a_namespace_that_is_none():
    for text in ("", "a\0b"):
        with pytest.raises(UsageError):
            netns.find(text, "conntrack")
    with pytest.raises(Exception, match="ip netns"):
        netns.find("no-such-name-at-all", "conntrack")


# -- the command -------------------------------------------------------------------------------------------------------


def parse(*argv):
    parser = argparse.ArgumentParser(prog="pidwarden conntrack")
    command.arguments(parser)
    return parser.parse_args(argv)


def test_an_action_is_another_module_and_comes_late(monkeypatch):
    seen = []
    module = types.ModuleType("pidwarden.cli.conntrack_resize")
    module.arguments = lambda parser: parser.add_argument("--max", type=int)
    module.run = lambda args: seen.append((args.command, args.max)) or 7
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert main.main(["conntrack", "resize", "--max", "5"]) == 7
    assert seen == [("conntrack", 5)]


def test_without_an_action_none_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "pidwarden.cli.conntrack_resize", None)
    assert parse("--walk").action is None


@pytest.mark.parametrize("argv", [["--top", "0"], ["--top", "x"], ["--watch", "0"], ["shrink"]])
def test_what_cannot_be_understood(argv, capsys):
    with pytest.raises(SystemExit) as why:
        parse(*argv)
    assert why.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [1, 2])
def test_namespaces_of_which_none_can_be_read_are_an_error(monkeypatch, number):
    def read(_namespace):
        raise NotPossible("nothing is tracked")

    monkeypatch.setattr(conntrack_look, "read_in", read)
    wish = conntrack_look.wish_of(parse())
    several = [netns.Namespace(n, "/nowhere", f"number {n}") for n in range(number)]
    with pytest.raises(NotPossible, match="nothing is tracked"):
        conntrack_look.Rounds(several, wish).look(0.0)


def test_what_a_walk_may_lack_is_told(monkeypatch):
    class Link:
        interrupted, overruns = True, 2

        def __enter__(self):
            return self

        def __exit__(self, *_why):
            pass

        def dump(self, _kind, _family):
            yield [b"broken"]

    monkeypatch.setattr(nfnetlink, "Link", Link)
    walked = conntrack_look.walk_in(netns.own(), conntrack_look.wish_of(parse("--walk")))
    assert [note.split(" ", 1)[0] for note in walked.notes] == ["the", "2", "1"]

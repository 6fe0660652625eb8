"""What the commands say to type can be typed as it stands, and undoes what it says."""

from __future__ import annotations

import argparse
import os
import types

import pytest

from pidwarden.cli import changing, conntrack, main, options, tables, tables_look, undoing
from pidwarden.diagnose import conntrack as diagnosis
from pidwarden.diagnose import ctadvice, resize, setting
from pidwarden.diagnose.change import Machine, of
from pidwarden.diagnose.conntrack import Kind
from pidwarden.diagnose.limits import Binding
from pidwarden.diagnose.limits import Kind as Which
from pidwarden.diagnose.resize import Wanted
from pidwarden.diagnose.tables import Trend, judge
from pidwarden.diagnose.tabletext import command
from pidwarden.kernel import limits, namespaces, netns
from pidwarden.kernel.tables import tasks
from pidwarden.model import undo
from pidwarden.model.conntrack import Columns, Memory, Reading
from pidwarden.model.cttally import Tally
from pidwarden.model.gauge import Gauge, Scope, Table, Thresholds
from pidwarden.model.limit import find
from pidwarden.model.plan import Plan
from pidwarden.model.undo import Entry, Step, Target
from pidwarden.model.undo import Kind as Place

UNKNOWN = Memory(None, None, None, why="not asked")


def reading(count, maximum=262_144, ns=0, **counters):
    return Reading(ns, 1, count, maximum, 262_144, {0: {"drop": 0, "early_drop": 0} | counters}, "test", {}, {})


def room(before, after):
    return diagnosis.diagnose(after, diagnosis.change(before, after._replace(ns=10**9)), UNKNOWN, None)[0]


def test_a_table_that_early_drops_keep_one_below_its_limit_is_full():
    found = room(reading(262_143, early_drop=900), reading(262_143, early_drop=900))
    assert found.kind is Kind.FULL
    assert "thrown out for new ones" in found.sentence
    assert "connections are dropped, old ones" in room(reading(262_143, drop=1), reading(262_143, drop=9)).sentence
    assert room(reading(261_000), reading(261_000)).kind is Kind.NEAR


def scan(source):
    count = 1000
    found = Tally()
    constants = {
        "family": 2, "proto": 17, "state": -1, "timeout": 20, "dport": 9, "sport": 1, "mark": 0, "zone": 0,
        "icmp": -1, "reply_src": b"", "reply_dst": b"", "src": source, "status": 0,
    }  # fmt: skip
    found.add(Columns(count, {"dst": list(range(count))}, constants))
    seen = reading(count)
    findings = diagnosis.diagnose(seen, diagnosis.NO_CHANGE, UNKNOWN, found)
    assert findings[0].sentence.startswith("a few sources")  # after "scanned: "
    return ctadvice.advise(findings, seen, UNKNOWN, found)


def test_who_scans_is_refused_by_a_table_of_its_own():
    advice = scan(0xC0000207)[0]
    assert advice.commands[-1] == "nft add rule inet pidwarden_refuse prerouting ip saddr 192.0.2.7 drop"
    assert advice.commands[0] == "nft add table inet pidwarden_refuse"
    assert "nft delete table inet pidwarden_refuse" in advice.breaks[-1]


def test_the_machine_itself_is_not_refused():
    assert "drop" not in " ".join(scan(0x7F000001)[0].commands)


def test_a_protocol_without_ports_gets_each_rule_once():
    commands = ctadvice.notrack(ctadvice.FlowSet(1, -1, None, "icmp"), ctadvice.Flows(0, 0, 0, 0)).commands
    assert len(set(commands)) == len(commands)


def test_a_limit_of_another_network_namespace_is_set_there():
    gauge = Gauge(Table.UDP_PORTS, Scope.NETNS, "netns 7", 9, 10, 0, "net.ipv4.ip_local_port_range")
    there = netns.Namespace(5, "/proc/7/ns/net", "that of pid 7")
    looks = tables_look._Looks(argparse.Namespace(netns="7"), frozenset(Table), there)
    (found,) = looks._chosen([gauge])
    line = "pidwarden limits set net.ipv4.ip_local_port_range 1024-65535"
    assert command(found) == f"sudo nsenter --net=/proc/7/ns/net {line}"
    assert command(gauge) == f"sudo {line}"


def test_what_is_full_is_not_full_soon():
    gauge = Gauge(Table.PTYS, Scope.MACHINE, "", 10, 10)
    assert judge(gauge, Thresholds(), Trend(5.0, 1.0, 0)).reasons == ("full",)


def test_ids_of_a_pid_namespace_are_not_those_of_the_machine(monkeypatch):
    monkeypatch.setattr(namespaces, "pid_namespace", lambda *_: 4)
    monkeypatch.setattr(limits, "table_limits", lambda *_, **__: [types.SimpleNamespace(
        name="pid_max", used=90, limit=100, reserved=0)])  # fmt: skip
    assert tasks.machine()[0].used is None


def facts(name, value, **others):
    named = find(name)
    return setting.Facts(named, (Target(Place.RLIMIT, which=name),), (value,), others=others)


def test_what_is_reached_first_is_raised_by_one_number():
    def said(wanted):
        return " ".join(setting.plan(facts("nproc:5", "100 9000", pid_max=64), wanted).notes)

    assert "`pidwarden limits set pid_max 500`" in said("500 9000")
    assert "limits set pid_max 4" not in said("unlimited unlimited")
    assert "`pidwarden limits set pid_max 4194304`" in said("5000000 5000000")


def test_a_hard_limit_that_is_lowered_may_not_come_back():
    notes = setting.plan(facts("nofile:5", "100 200"), "50 60").notes
    assert any("CAP_SYS_RESOURCE" in note and "`50:200`" in note for note in notes)
    assert not setting.plan(facts("nofile:5", "100 200"), "50 200").notes


def test_unlimited_is_not_written_as_nothing():
    binding = Binding("nofile", 0, 5, 0, kind=Which.NOFILE, pid=5, cgroup="/x", better=0, path="")
    assert "- nofile unlimited in" in of(binding, Machine(systemd=False)).lasting
    assert "LimitNOFILE=infinity" in of(binding._replace(cgroup="/a.service"), Machine(systemd=True)).lasting


def test_no_more_buckets_than_the_kernel_makes():
    now = resize.Facts(262_144, 262_144, 0, 384, None)
    with pytest.raises(ValueError, match="buckets from 1 to 536870400"):
        resize.plan(now, Wanted(None, 1_000_000_000), "/x")
    assert resize.sizes(now, Wanted(2**31 - 1, None)) == (2**31 - 1, 536_870_400)


def test_memory_that_does_not_come_back_is_not_promised():
    now = resize.Facts(262_656, 262_656, 0, 384, None)
    said = [" ".join(resize.plan(now, Wanted(most, None), "/x").notes) for most in (262_400, 262_144)]
    assert ["gives their memory back" in text for text in said] == [False, True]


def test_a_rehearsal_of_what_is_refused_says_so(capsys):
    step = Step(Target(Place.KERNEL, "/x"), "1", "2")
    args = argparse.Namespace(json=False, dry_run=True)
    assert changing.carry_out(Plan("x", (step,), (), (), ("too much",)), args, "x") == 1
    assert changing.carry_out(Plan("x", (step,), (), (), ()), args, "x") == 0
    assert "no: too much" in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["nf_conntrack_max", "net.netfilter.nf_conntrack_buckets", "conntrack", "4"])
def test_a_change_is_known_by_each_name_of_its_limit(typed):
    entry = Entry(4, 0, "", "conntrack", "x", (Step(Target(Place.KERNEL, "/x"), "1", "2"),))
    assert undoing._meant([entry], typed) is entry


def test_a_record_that_is_none_is_said_in_words():
    with pytest.raises(ValueError, match=r"lacks what belongs there$"):
        undo.from_json([])


@pytest.mark.parametrize("convert", [tables._share, options.seconds, conntrack._top])
@pytest.mark.parametrize("text", ["x", "nan", "-1", "0", "inf"])
def test_numbers_that_are_none_are_said_in_words(convert, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no "):
        convert(text)


def test_an_answer_that_has_no_room_is_no_crash(capfd, monkeypatch):
    full = os.open("/dev/full", os.O_WRONLY)
    kept = os.dup(1)
    try:
        with open(full, "w", encoding="utf-8") as out:
            monkeypatch.setattr("sys.stdout", out)
            assert main.main(["limits", "--json"]) == 1
            os.dup2(os.open(os.devnull, os.O_WRONLY), full)
    finally:
        os.dup2(kept, 1)
    assert "tried to write the answer: No space left on device" in capfd.readouterr().err

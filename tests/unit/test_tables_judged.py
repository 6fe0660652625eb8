"""What is made of gauges: the judgement, the command that helps, and the guard's rule."""

from __future__ import annotations

import shlex

import pytest

from pidwarden.cli import tables_text
from pidwarden.diagnose.tables import State, Trend, fullest, judge, judged, trends
from pidwarden.diagnose.tabletext import ABOUT, command
from pidwarden.guard.rules import tables as rule
from pidwarden.kernel.tables import (
    descriptors,
)
from pidwarden.model import limit
from pidwarden.model.gauge import Gauge, Scope, Table, Thresholds
from pidwarden.settings.tables import Tables as Shares

SECOND = 1_000_000_000


def gauge(used, limit=1000, table=Table.CONNTRACK, **more):
    return Gauge(table, Scope.NETNS, "", used, limit, 0, "net.netfilter.nf_conntrack_max", **more)


@pytest.mark.parametrize(
    ("used", "state"), [(0, "fine"), (749, "fine"), (750, "near"), (899, "near"), (900, "over"), (1000, "over")]
)
def test_shares(used, state):
    assert judge(gauge(used), Thresholds()).state == state


def test_what_is_full_soon_is_near_however_much_is_free():
    assert judge(gauge(300), Thresholds(), Trend(10.0, 2.0, 0)).reasons == ("full in 70 s at this rate",)
    assert judge(gauge(200), Thresholds(), Trend(10.0, 2.0, 0)).state is State.FINE  # it has just begun
    assert judge(gauge(300), Thresholds(full_in=60), Trend(10.0, 2.0, 0)).state is State.FINE
    assert judge(gauge(300), Thresholds(), Trend(-10.0, 2.0, 0)).full_in is None


def test_refusals_are_told_whatever_the_share():
    finding = judge(gauge(10), Thresholds(), Trend(0.0, 2.0, 3))
    assert (finding.state, finding.reasons) == (State.NEAR, ("3 refused in the last 2.0 s",))


def test_no_limit_and_what_cannot_be_seen():
    assert judge(gauge(10, None), Thresholds()).state is State.FINE
    unseen = judge(gauge(None, unseen="be root"), Thresholds())
    assert unseen.state is State.UNSEEN
    assert unseen.object()["unseen"] == "be root"
    assert judge(gauge(5, 0), Thresholds()).state is State.OVER


def test_a_threshold_of_one_table():
    thresholds = Thresholds(tables={"conntrack": 0.5})
    assert judge(gauge(500), thresholds).state is State.OVER
    assert judge(gauge(500, table=Table.AIO), thresholds).state is State.FINE


def test_two_looks_make_a_trend_of_what_is_in_both():
    found = trends([gauge(100, failures=1)], [gauge(150, failures=4), gauge(1, table=Table.AIO)], 5.0)
    assert found == {("conntrack", ""): Trend(10.0, 5.0, 3)}


def test_the_fullest_of_each_table_comes_first_and_others_only_if_they_are_near():
    gauges = [gauge(n, table=Table.PROCESS_FILES)._replace(of=f"pid {n} (x)") for n in (10, 990, 20, 800)]
    shown = fullest(judged([*gauges, gauge(300)], Thresholds()))
    assert [(f.gauge.used, more) for f, more in shown] == [(990, 3), (800, 0), (300, 0)]


def one_of(table, setting, *, scope=Scope.MACHINE, of="", **more):
    return Gauge(table, scope, of, 950, 1000, 0, setting, **more)


INSIDE = "/run/netns/a b"
EVERY = [
    one_of(Table.PIDS, "kernel.pid_max"),
    one_of(Table.THREADS, "kernel.threads-max"),
    one_of(Table.USER_TASKS, "RLIMIT_NPROC", of="uid 5", detail="the limit is that of process 1"),
    one_of(Table.CGROUP_PIDS, "pids.max", of="/a b;rm"),
    one_of(Table.FILES, "fs.file-max"),
    one_of(Table.PROCESS_FILES, "RLIMIT_NOFILE", of="pid 1 (x 2)"),
    *(one_of(Table.INOTIFY_INSTANCES, f"{name}_instances") for name in ("fs.inotify.max_user", "user.max_inotify")),
    *(one_of(Table.INOTIFY_WATCHES, f"{name}_watches") for name in ("fs.inotify.max_user", "user.max_inotify")),
    *(one_of(Table.NAMESPACES, f"user.max_{kind}_namespaces", of=kind) for kind in descriptors.KINDS),
    one_of(Table.NEIGHBOURS4, "net.ipv4.neigh.default.gc_thresh3"),
    one_of(Table.NEIGHBOURS6, "net.ipv6.neigh.default.gc_thresh3"),
    one_of(Table.TCP_PORTS, "net.ipv4.ip_local_port_range", netns=INSIDE),
    one_of(Table.UDP_PORTS, "net.ipv4.ip_local_port_range"),
    one_of(Table.TIME_WAIT, "net.ipv4.tcp_max_tw_buckets", netns=INSIDE),
    one_of(Table.CONNTRACK, "net.netfilter.nf_conntrack_max", netns=INSIDE),
    *(one_of(Table.KEYS, f"kernel.keys.{root}maxkeys") for root in ("", "root_")),
    *(one_of(Table.KEY_BYTES, f"kernel.keys.{root}maxbytes") for root in ("", "root_")),
    one_of(Table.PTYS, "kernel.pty.max"),
    one_of(Table.PTYS, "the mount option max of devpts", scope=Scope.MOUNT, of="/dev/pts"),
    one_of(Table.AIO, "fs.aio-max-nr"),
    one_of(Table.MOUNTS, "fs.mount-max"),
]


@pytest.mark.parametrize("one", EVERY, ids=lambda g: f"{g.table} {g.setting}")
def test_each_table_has_a_symptom_a_remedy_and_a_command_that_is_taken(one):
    about = ABOUT[one.table]
    assert about.title and about.symptom and about.remedy  # noqa: PT018
    text = tables_text.lines([(judge(one, Thresholds()), 0)])
    assert text[0].startswith("OVER: ")
    assert [line.split(None, 1)[1] for line in text if line.strip().startswith("type")] == [command(one)]
    words = shlex.split(command(one))
    for before in (["sudo"], ["nsenter", f"--net={one.netns}"]):
        words = words[len(before) :] if words[: len(before)] == before else words
    if words[0] == "mount":
        assert one.scope is Scope.MOUNT
    elif one.table is Table.CONNTRACK:
        assert words == ["pidwarden", "conntrack", "resize", "--max", "2000"]
    else:
        program, group, word, name, value = words
        assert (program, group, word) == ("pidwarden", "limits", "set")
        setting = limit.find(name).setting
        assert limit.allows(setting, limit.parse(setting, value)) > one.limit


def test_no_table_was_forgotten():
    assert {one.table for one in EVERY} == set(Table)


def test_a_setting_of_a_network_namespace_is_set_there():
    by_table = {one.table: command(one) for one in EVERY if one.netns}
    assert by_table[Table.TIME_WAIT].startswith(f"sudo nsenter --net='{INSIDE}' pidwarden limits set net.ipv4.tcp_max_")
    assert by_table[Table.TCP_PORTS].startswith("sudo nsenter --net=")
    assert "nsenter" not in by_table[Table.CONNTRACK]  # of all, and only the first may write it


def test_commands():
    assert command(gauge(5, 1000)) == "sudo pidwarden conntrack resize --max 2000"
    full = Gauge(Table.PIDS, Scope.MACHINE, "", 5, 4_194_304, 0, "kernel.pid_max")
    assert command(full) == ""
    assert command(full._replace(limit=4_000_000)) == "sudo pidwarden limits set kernel.pid_max 4194304"
    hostile = Gauge(Table.CGROUP_PIDS, Scope.CGROUP, "/a b;rm", 5, 6, 0, "pids.max")
    assert command(hostile) == "sudo pidwarden limits set 'pids.max:/a b;rm' 12"
    asked = Gauge(Table.AIO, Scope.MACHINE, "", 5, 6, 0, "fs.aio-max-nr")
    assert command(asked) == "sudo pidwarden limits set fs.aio-max-nr 12"


# -- the guard's rule --------------------------------------------------------------------------------------------------


def test_a_rate_is_that_of_the_last_minutes():
    rates = rule.Rates()
    seen = []
    for minute in range(30):
        seen.append(rates.note(gauge(100 * min(minute, 10)), minute * 60 * SECOND))
        rates.end()
    assert seen[0] is None
    assert round(seen[5].per_second * 60) == 100
    assert seen[29].per_second == 0
    assert 300 <= seen[29].seconds <= 660


def test_failures_are_those_since_the_last_look():
    rates = rule.Rates()
    found = []
    for at, failures in enumerate((5, 5, 7, 7)):
        found.append(rates.note(gauge(1, failures=failures), at * SECOND))
        rates.end()
    assert [t and t.failures for t in found] == [None, 0, 2, 0]


def looks(monkeypatch, *seen):
    """What the rule tells at each look, ten seconds apart."""
    told = []
    tables = rule.Tables(lambda _event, **fields: told.append((fields["what"], fields["table"], fields["text"])))
    shares = Shares(over=0.9, near=0.75, full_in=1800.0, rate_from=0.25, shares={})
    result, last = [], ""
    for at, gauges in enumerate(seen):
        monkeypatch.setattr(rule, "gauges", lambda found=gauges, **_more: iter(found))
        list(tables.look(shares, at * 10 * SECOND, tasks_too=True))
        result.append([what for what, _table, _text in told])
        last = told[-1][2] if told else last
        told.clear()
    return result, last


def test_it_warns_once_before_it_is_full(monkeypatch):
    result, text = looks(monkeypatch, *([gauge(n)] for n in (100, 300, 500, 700, 740)))
    assert result[:2] == [[], ["begins"]]
    assert sum("begins" in told for told in result) == 1
    assert "type `sudo pidwarden conntrack resize --max 2000`" in text


def test_slow_growth_is_told_by_its_share_and_the_end_too(monkeypatch):
    result, text = looks(monkeypatch, [gauge(740)], [gauge(760)], [gauge(760)], [gauge(100)], [gauge(100)])
    assert [what for told in result for what in told] == ["begins", "over"]
    assert text.startswith("over after ")


def test_what_was_not_looked_at_goes_on(monkeypatch):
    """Everybody is looked at at every third look."""
    files = gauge(60, 64, table=Table.PROCESS_FILES)._replace(of="pid 5 (x)")
    result, _text = looks(monkeypatch, [files], [], [], [files], [], [], [])
    assert [what for told in result for what in told] == ["begins", "over"]
    assert result[6] == ["over"]


def test_a_burst_from_nothing_is_not_told(monkeypatch):
    assert looks(monkeypatch, *([gauge(n)] for n in (0, 100, 200, 200, 200)))[0] == [[], [], [], [], []]

"""`pidwarden limits`, `undo` and `conntrack resize` on real limits: raised by a little, and exactly as before after."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest
from cli_kit import nobody_cli, one_sentence, pidwarden_cli
from guardkit import pen
from kit import child
from limitskit import enter_flows, flows, namespace_of_its_own, restored, tracking, values, within

from pidwarden.cli import conntrack_resize
from pidwarden.cli.main import main
from pidwarden.kernel import usage
from pidwarden.rescue.system import Machine as Console

pytestmark = pytest.mark.root

SYS = "/proc/sys"
SETTABLE = {
    "pid_max": "kernel/pid_max",
    "threads-max": "kernel/threads-max",
    "file-max": "fs/file-max",
    "max_user_instances": "fs/inotify/max_user_instances",
    "max_user_watches": "fs/inotify/max_user_watches",
    "max_queued_events": "fs/inotify/max_queued_events",
}
GC = [f"{SYS}/net/ipv{family}/neigh/default/gc_thresh{n}" for family in (4, 6) for n in (1, 2, 3)]
TRACKING = [f"{SYS}/net/netfilter/nf_conntrack_{name}" for name in ("max", "buckets")]


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """The folder of the record; where files of settings are written is another."""
    monkeypatch.setenv("PIDWARDEN_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def put(name, value, *more):
    return main(["limits", "set", name, str(value), *more])


def own_files(root):
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


def test_limits_of_the_machine_are_set_kept_and_set_back(tmp_path, capsys):
    etc = tmp_path / "root"
    with restored(*(f"{SYS}/{path}" for path in SETTABLE.values())) as before:
        for name, path in SETTABLE.items():
            old = int(before[f"{SYS}/{path}"])
            assert put(name, old + 8, "--persist", "--root", str(etc)) == 0
            assert values(f"{SYS}/{path}") == {f"{SYS}/{path}": str(old + 8)}
            text = own_files(etc)[f"etc/sysctl.d/99-zz-pidwarden-{name}.conf"]
            assert f"`pidwarden undo {name}`" in text
            assert text.splitlines()[-1] == f"{path.replace('/', '.')} = {old + 8}"
        # In another order than they were made, by name.
        for name in sorted(SETTABLE):
            assert main(["undo", name]) == 0
        assert own_files(etc) == {}
        assert main(["undo"]) == 1
    assert not etc.exists()
    assert "there is none; `pidwarden undo --list`" in capsys.readouterr().err


def test_thresholds_of_neighbours_rise_together(capsys):
    with restored(*GC) as before:
        most = int(before[GC[2]])
        assert put("arp.gc_thresh", f"{before[GC[0]]},{before[GC[1]]},{most + 8}") == 0
        assert put("ndisc.gc_thresh", 2 * int(before[GC[5]])) == 0
        assert int(values(GC[5])[GC[5]]) == 2 * int(before[GC[5]])
        assert main(["limits", "undo"]) == 0
        assert main(["limits", "undo"]) == 0
        out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("plan: set ")]
    assert [line[-3 - len(line.split(": ", 2)[2]) :][0] for line in lines[1:]] == ["3", "2", "1"]


def test_the_rescue_console_takes_the_same_names_and_takes_each_back():
    acts = []
    console = Console(lambda _line: None, acts)
    with restored(*GC) as before:
        console.limits(["arp.gc_thresh", f"{before[GC[0]]},{int(before[GC[1]]) + 1},{int(before[GC[2]]) + 8}"])
        assert values(GC[2])[GC[2]] == str(int(before[GC[2]]) + 8)
        for act in reversed(acts):
            act.undo()


def test_a_rehearsal_says_what_would_be_done_to_the_letter_and_does_nothing(state, tmp_path, capsys):
    with restored(f"{SYS}/kernel/pid_max") as before:
        wanted = int(before[f"{SYS}/kernel/pid_max"]) + 8
        more = ("--persist", "--root", str(tmp_path / "root"), "--json")
        assert put("pid_max", wanted, *more, "--dry-run") == 0
        planned = json.loads(capsys.readouterr().out)
        assert not state.exists()
        assert not (tmp_path / "root").exists()
        assert put("pid_max", wanted, *more) == 0
        done = json.loads(capsys.readouterr().out)
        assert planned["steps"] == done["steps"]
        written = {s["place"]: s["new"] for s in planned["steps"] if s["kind"] == "config"}
        assert {f"{tmp_path}/root/{name}": text for name, text in own_files(tmp_path / "root").items()} == written
        assert main(["undo", str(done["change"])]) == 0


def test_options_hold_before_and_after_the_word(tmp_path, capsys):
    here, there = ("--root", str(tmp_path), "--json"), ("pid_max", "4194304", "--dry-run", "--persist")
    for argv in (("limits", *here, "set", *there), ("limits", "set", *there, *here)):
        assert main(argv) == 0
        assert json.loads(capsys.readouterr().out)["steps"][-1]["place"].startswith(f"{tmp_path}/etc/sysctl.d/")


def test_what_is_lowered_is_asked_for_and_what_is_in_use_is_refused(state, capsys):
    with restored(f"{SYS}/kernel/pid_max") as before:
        old = int(before[f"{SYS}/kernel/pid_max"])
        assert put("pid_max", old - 1) == 2
        assert put("threads-max", 21, "--yes") == 1
        said = capsys.readouterr()
        assert "there is no terminal to ask; type `--yes`" in said.err
        assert "would allow fewer: nobody could fork" in said.out
        assert not state.exists()


def test_what_somebody_else_set_since_is_not_overwritten(tmp_path, capsys):
    with pen(50) as made:
        path = f"{made.directories[0]}/pids.max"
        name = f"pids.max:/{made.name}"
        assert put(name, 60) == 0
        with open(path, "w") as file:
            file.write("70")
        assert main(["undo"]) == 1
        assert values(path)[path] == "70"
        assert "holds 70 and not, as we left it, 60" in capsys.readouterr().err
        assert main(["undo", name, "--force"]) == 0
        assert values(path)[path] == "50"
        assert put(name, 0, "--yes") == 0
        assert put(name, "max", "--persist", "--root", str(tmp_path)) == 4
        assert main(["undo"]) == 0
        assert values(path)[path] == "50"


def test_undo_does_not_shut_in_what_has_come_meanwhile(monkeypatch, capsys):
    with pen(50) as made:
        path = f"{made.directories[0]}/pids.max"
        assert put(f"pids.max:/{made.name}", 60) == 0
        monkeypatch.setattr(usage, "used", lambda _named: 55)
        assert main(["undo"]) == 1
        assert "55 are in use and 50 would allow fewer" in capsys.readouterr().err
        assert values(path)[path] == "60"
        assert main(["undo", "--forget"]) == 0
        assert values(path)[path] == "60"
        assert main(["undo"]) == 1


_KILLED = """
import os, signal, sys
from pidwarden.act import change
from pidwarden.cli.main import main
from pidwarden.kernel import usage
from pidwarden.rescue.system import Machine as Console
do = change._do
def die(step):
    do(step)
    os.kill(os.getpid(), signal.SIGKILL)
change._do = die
main(["limits", "set", sys.argv[1], "60"])
"""


def test_who_is_killed_in_the_middle_leaves_a_way_back(capsys):
    with pen(50) as made:
        path = f"{made.directories[0]}/pids.max"
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, f"pids.max:/{made.name}"], check=False, capture_output=True
        )
        assert done.returncode == -9
        assert values(path)[path] == "60"
        assert main(["undo", "--list"]) == 0
        assert "cut short" in capsys.readouterr().out
        assert main(["undo"]) == 0
        assert values(path)[path] == "50"


def low():
    resource.setrlimit(resource.RLIMIT_NPROC, (500, 1000))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))


def test_limits_of_a_process(capsys):
    with child("crowd", "1", enter=low) as running:
        running.said()
        assert put(f"nproc:{running.pid}", 700) == 0
        assert put(f"nofile:{running.pid}", "100") == 0
        assert resource.prlimit(running.pid, resource.RLIMIT_NPROC) == (700, 1000)
        assert resource.prlimit(running.pid, resource.RLIMIT_NOFILE) == (100, 128)
        assert main(["undo", f"nproc:{running.pid}"]) == 0
        assert resource.prlimit(running.pid, resource.RLIMIT_NPROC) == (500, 1000)
        assert put(f"nofile:{running.pid}", 1, "--yes") == 1  # it has more open
        assert put(f"nofile:{running.pid}", 1 << 40) == 1
        assert "nr_open" in capsys.readouterr().out
        pid = running.pid
    assert main(["undo", f"nofile:{pid}"]) == 0
    assert "gone" in capsys.readouterr().out
    assert put(f"nofile:{pid}", 5) == 1


def test_a_hostile_cgroup_breaks_no_line(capsys):
    with pen(50) as made:
        below = f"{made.directories[0]}/a ) Z 1 (\x1b[2J\udcff"
        os.mkdir(below)
        try:
            name = f"pids.max:/{made.name}/a ) Z 1 (\x1b[2J\udcff"
            assert put(name, 60, "--yes") == 0
            assert put(name, 61, "--json") == 0
            assert main(["undo", "--list"]) == 0
            out = capsys.readouterr().out
            assert all(line.isprintable() for line in out.splitlines())
            assert json.loads(out.splitlines()[-4])["done"]
            assert main(["undo"]) == 0
            assert values(f"{below}/pids.max") == {f"{below}/pids.max": "60"}
        finally:
            os.rmdir(below)


# -- namespaces --------------------------------------------------------------------------------------------------------


def test_limits_of_a_network_namespace_stay_in_it(state):
    ports, waiting = f"{SYS}/net/ipv4/ip_local_port_range", f"{SYS}/net/ipv4/tcp_max_tw_buckets"
    with restored(ports, waiting), namespace_of_its_own() as pid:
        for name, value in (("ip_local_port_range", "20000-60999"), ("tcp_max_tw_buckets", "200000")):
            assert pidwarden_cli("limits", "set", name, value, prefix=within(pid)).returncode == 0
        seen = subprocess.run([*within(pid), "cat", ports, waiting], check=True, capture_output=True, text=True).stdout
        assert seen.split() == ["20000", "60999", "200000"]
        elsewhere = one_sentence(pidwarden_cli("undo"), 4)
        assert "was made in the namespace net:[" in elsewhere
        keep = ("--persist", "--root", str(state.parent / "root"))
        refused = pidwarden_cli("limits", "set", "tcp_max_tw_buckets", "200001", *keep, prefix=within(pid))
        assert "files of settings are applied in the net namespace of pid 1" in one_sentence(refused, 4)
        assert pidwarden_cli("undo", prefix=within(pid)).returncode == 0
        seen = subprocess.run([*within(pid), "cat", waiting], check=True, capture_output=True, text=True).stdout
        assert int(seen) != 200000
    gone = pidwarden_cli("undo")
    assert (gone.returncode, "gone" in gone.stdout) == (0, True)


def test_limits_of_the_machine_cannot_be_set_from_another_network_namespace():
    with namespace_of_its_own() as pid:
        there = one_sentence(pidwarden_cli("limits", "set", "arp.gc_thresh", "4096", prefix=within(pid)), 4)
        assert "first network namespace" in there


def test_limits_of_a_user_namespace():
    script = (
        f"{sys.executable} -m pidwarden limits set max_net_namespaces 77 --yes && cat {SYS}/user/max_net_namespaces && "
        f"{sys.executable} -m pidwarden undo --json && cat {SYS}/user/max_net_namespaces"
    )
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert "77" in lines
    assert lines[-1] == str(json.loads(lines[-2])["steps"][0]["old"])


def test_an_ordinary_user_can_look_and_is_told_what_he_lacks(tmp_path):
    shown = nobody_cli("limits", "--json")
    assert shown.returncode == 0
    assert {"pid_max", "arp.gc_thresh"} <= {row["name"] for row in json.loads(shown.stdout)["limits"]}
    done = nobody_cli("limits", "set", "pid_max", "4194303", "--state-dir", str(tmp_path / "no"))
    assert "sudo pidwarden" in one_sentence(done, 3)
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed/changes.json").write_text("{}")
    assert "takes root" in one_sentence(nobody_cli("undo", "--state-dir", str(tmp_path / "closed")), 3)


# -- connection tracking -----------------------------------------------------------------------------------------------


def resize(*arguments):
    import argparse  # noqa: PLC0415

    parser = argparse.ArgumentParser()
    conntrack_resize.arguments(parser)
    args = parser.parse_args(arguments)
    args.command = "conntrack"
    return conntrack_resize.run(args)


@pytest.mark.skipif(not tracking(), reason="no connection tracking, or no conntrack(8) to enter some")
def test_a_live_resize_loses_no_entry_and_is_taken_back(tmp_path, capsys):
    with restored(*TRACKING) as before, namespace_of_its_own() as pid:
        enter_flows(pid, 5000, tmp_path)
        there = flows(pid)
        assert len(there) == 5000
        most, buckets = (int(before[path]) for path in TRACKING)
        assert resize("--max", str(buckets + 1000), "--persist", "--root", str(tmp_path / "root"), "--json") == 0
        done = json.loads(capsys.readouterr().out)
        kernel = [(s["place"].rpartition("_")[2], s["old"], s["new"]) for s in done["steps"] if s["kind"] == "kernel"]
        more = str(-(-(buckets + 1000) // 512) * 512)
        assert kernel == [("buckets", str(buckets), more), ("max", str(most), str(buckets + 1000))]
        assert values(*TRACKING) == dict(zip(TRACKING, (str(buckets + 1000), more), strict=True))
        assert flows(pid) == there
        # Fewer buckets than there are, with the same entries in them: asked for, rounded, and taken back as well.
        assert resize("--buckets", str(buckets - 700), "--yes") == 0
        assert flows(pid) == there
        assert main(["undo"]) == 0
        assert main(["undo", "conntrack"]) == 0
        assert flows(pid) == there
        assert own_files(tmp_path / "root") == {} if (tmp_path / "root").exists() else True


@pytest.mark.skipif(not tracking(), reason="no connection tracking")
def test_by_its_names_it_is_the_same_plan(state, capsys):
    with restored(*TRACKING) as before:
        assert put("nf_conntrack_max", int(before[TRACKING[1]]) + 512, "--dry-run", "--json") == 0
        plan = json.loads(capsys.readouterr().out)
        assert [s["place"].rpartition("_")[2] for s in plan["steps"]] == ["buckets", "max"]
        assert resize() == 0  # a proposal, and nothing done
        assert not state.exists()


@pytest.mark.skipif(not tracking(), reason="no connection tracking")
def test_only_the_first_network_namespace_may_resize_it():
    with namespace_of_its_own() as pid:
        done = pidwarden_cli("limits", "set", "nf_conntrack_max", "4000000", prefix=within(pid))
        assert "only the machine's first network namespace may write it" in one_sentence(done, 4)

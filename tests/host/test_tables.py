"""Tables really filled, each in a place of the test's own: warning, diagnosis, what is printed, it gone, undone."""

from __future__ import annotations

import errno
import functools
import os
import resource
import shlex
import tempfile
from pathlib import Path

import pytest
from cli_kit import dropped, forget_copy, nobody_cli
from kit import until
from tableskit import filler, look, network, of_pid, put, run, typed, value

from pidwarden.cli.main import main
from pidwarden.diagnose.tabletext import ABOUT, command
from pidwarden.kernel import cgroup, limits
from pidwarden.kernel.tables import look as tables
from pidwarden.model.gauge import Scope, Table

pytestmark = [pytest.mark.root]


@pytest.fixture(scope="module", autouse=True)
def _tidy():
    yield
    forget_copy()


def test_open_files_of_a_process(tmp_path):
    with filler("files") as child:
        assert child.to(50) == (50, 0)
        table = look("process-files", of=of_pid(child.pid))
        assert (table["used"], table["limit"], table["state"]) == (50, 64, "near")
        number, stopped = child.to(65)
        assert stopped == "EMFILE"
        table = look("process-files", of=of_pid(child.pid))
        assert (table["used"], table["limit"], table["state"]) == (number, 64, "over")
        assert table["symptom"].endswith("EMFILE, Too many open files")
        back = typed(table["type"], tmp_path)
        assert child.to(70) == (70, 0)
        assert look("process-files", of=of_pid(child.pid))["state"] == "fine"
        back()
        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == (64, 256)


def test_tasks_of_a_cgroup(tmp_path):
    mounts = cgroup.mounts()
    folder = Path(f"{mounts.v1.get('pids') or mounts.v2}/pidwarden-tables-{os.getpid()}")
    folder.mkdir()
    try:
        (folder / "pids.max").write_text("20")
        with filler("cgroup", folder) as child:
            assert child.to(15) == (15, 0)
            table = look("cgroup-pids", of=folder.name)
            assert (table["used"], table["limit"], table["state"], table["failures"]) == (16, 20, "near", 0)
            assert child.to(20) == (19, "EAGAIN")
            table = look("cgroup-pids", of=folder.name)
            assert (table["used"], table["free"], table["state"]) == (20, 0, "over")
            assert table["failures"] >= 1
            assert table["peak"] in (20, None)
            assert "EAGAIN" in table["symptom"]
            back = typed(table["type"], tmp_path)
            assert child.to(25) == (25, 0)
            assert look("cgroup-pids", of=folder.name)["state"] == "fine"
        until(lambda: int((folder / "pids.current").read_text()) <= 20, "it to have room")
        back()
        assert (folder / "pids.max").read_text() == "20\n"
    finally:
        until(lambda: not cgroup.processes(str(folder)), "the cgroup to be empty")
        folder.rmdir()


def test_tasks_of_a_user():
    """The command is typed as that user: where root lacks CAP_SYS_RESOURCE, it may not."""
    uid = 54_322
    with filler("user", uid, 20) as child, tempfile.TemporaryDirectory() as state:
        os.chown(state, uid, uid)
        assert child.to(15) == (15, 0)
        table = look("user-tasks", of=f"uid {uid}")
        assert (table["used"], table["limit"], table["state"]) == (16, 20, "near")
        assert child.to(25) == (19, "EAGAIN")
        table = look("user-tasks", of=f"uid {uid}")
        assert (table["used"], table["state"], table["who"][0]["used"]) == (20, "over", 20)
        assert table["type"] == f"sudo pidwarden limits set nproc:{child.pid} 40"
        back = typed(table["type"], state, cli=functools.partial(nobody_cli, uid=uid))
        assert child.to(22) == (22, 0)
        for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split():
            run(*dropped(uid), "prlimit", "--nproc=40:40", "--pid", pid)
        assert look("user-tasks", of=f"uid {uid}")["state"] == "fine"
        back()
        assert limits.nproc(child.pid) == (20, 40)


def test_inotify_in_a_user_namespace(tmp_path):
    with filler("files", prefix=("unshare", "-Ur")) as keeper:
        inside = ("nsenter", "-t", str(keeper.pid), "-U", "--preserve-credentials")
        put("/proc/sys/user/max_inotify_instances", 10, inside)
        put("/proc/sys/user/max_inotify_watches", 20, inside)
        with filler("instances", prefix=inside) as child:
            assert child.to(8) == (8, 0)
            table = look("inotify-instances", prefix=inside)
            assert (table["used"], table["limit"], table["state"]) == (8, 10, "near")
            assert table["who"] == [{"name": f"pid {child.pid} (python3)", "used": 8}] or table["who"][0]["used"] == 8
            assert child.to(11) == (10, "EMFILE")
            table = look("inotify-instances", prefix=inside)
            assert (table["used"], table["state"], table["setting"]) == (10, "over", "user.max_inotify_instances")
            assert "EMFILE" in table["symptom"]
            back = typed(table["type"], tmp_path / "state", inside)
            assert child.to(12) == (12, 0)
            assert look("inotify-instances", prefix=inside)["state"] == "fine"
            back()
            assert value("/proc/sys/user/max_inotify_instances", inside) == ["10"]
        with filler("watches", tmp_path, prefix=inside) as child:
            os.chmod(tmp_path, 0o777)
            assert child.to(16) == (16, 0)
            table = look("inotify-watches", prefix=inside)
            assert (table["used"], table["limit"], table["state"]) == (16, 20, "near")
            assert child.to(21) == (20, "ENOSPC")
            table = look("inotify-watches", prefix=inside)
            assert (table["used"], table["state"]) == (20, "over")
            assert table["who"][0]["name"].startswith(of_pid(child.pid))
            back = typed(table["type"], tmp_path / "state", inside)
            assert child.to(26) == (26, 0)
            assert look("inotify-watches", prefix=inside)["state"] == "fine"
            back()
            assert value("/proc/sys/user/max_inotify_watches", inside) == ["20"]


def test_namespaces_of_a_user_namespace(tmp_path):
    with filler("files", prefix=("unshare", "-Ur")) as keeper:
        inside = ("nsenter", "-t", str(keeper.pid), "-U", "--preserve-credentials")
        put("/proc/sys/user/max_uts_namespaces", 5, inside)
        with filler("namespaces", prefix=inside) as child:
            assert child.to(4) == (4, 0)
            table = look("namespaces", of="uts", prefix=inside)
            assert (table["used"], table["limit"], table["state"]) == (4, 5, "near")
            assert child.to(6) == (5, "ENOSPC")
            table = look("namespaces", of="uts", prefix=inside)
            assert (table["used"], table["state"], table["setting"]) == (5, "over", "user.max_uts_namespaces")
            back = typed(table["type"], tmp_path, inside)
            assert child.to(7) == (7, 0)
            assert look("namespaces", of="uts", prefix=inside)["state"] == "fine"
            back()
            assert value("/proc/sys/user/max_uts_namespaces", inside) == ["5"]


def test_ports_to_one_destination(tmp_path):
    with network() as inside:
        put("/proc/sys/net/ipv4/ip_local_port_range", "40000 40099", inside)
        netns = ("tcp-ports", "--netns", inside[2])
        with filler("ports", 7001, prefix=inside) as child, filler("ports", 7002, prefix=inside) as other:
            assert child.to(80) == (80, 0)
            table = look(*netns, of="127.0.0.1:7001")
            assert (table["used"], table["limit"], table["state"]) == (80, 100, "near")
            number, stopped = child.to(101)
            assert stopped == "EADDRNOTAVAIL"
            table = look(*netns, of="127.0.0.1:7001")
            assert (table["used"], table["state"]) == (number, "over")
            assert table["who"][0] == {"name": table["who"][0]["name"], "used": number}
            assert table["who"][0]["name"].startswith(of_pid(child.pid))
            assert "EADDRNOTAVAIL, to this destination only" in table["symptom"]
            assert other.to(10) == (10, 0)
            assert look(*netns, of="127.0.0.1:7002")["state"] == "fine"
            listed = run(*inside, "ss", "-tnH", "dst", "127.0.0.1:7001").splitlines()
            assert len(listed) == number
            back = typed(table["type"], tmp_path)
            assert child.to(110) == (110, 0)
            assert look(*netns, of="127.0.0.1:7001")["state"] == "fine"
            back()
            assert value("/proc/sys/net/ipv4/ip_local_port_range", inside) == ["40000", "40099"]


def test_time_wait(tmp_path):
    with network() as inside:
        put("/proc/sys/net/ipv4/tcp_max_tw_buckets", 50, inside)
        netns = ("time-wait", "--netns", inside[2])
        with filler("waiting", 7003, prefix=inside) as child:
            assert child.to(40) == (40, 0)
            table = until(lambda: [t for t in [look(*netns)] if t["used"] == 40], "40 to wait")[0]
            assert (table["limit"], table["state"], table["failures"]) == (50, "near", 0)
            assert f"timewait {table['used']}" in run(*inside, "ss", "-s")
            assert child.to(70) == (70, 0)
            table = look(*netns)
            assert (table["used"], table["state"]) == (50, "over")
            assert table["failures"] == 20
            assert "time wait bucket table overflow" in table["symptom"]
            back = typed(table["type"], tmp_path)
            assert child.to(80) == (80, 0)
            table = look(*netns)
            assert (table["used"], table["state"], table["failures"]) == (60, "fine", 20)
            back("--force")  # 60 wait, and are not asked to go
            assert value("/proc/sys/net/ipv4/tcp_max_tw_buckets", inside) == ["50"]


def test_neighbours(tmp_path):
    thresholds = [Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{n}") for n in (3, 2, 1)]
    if not os.path.exists("/proc/net/stat/arp_cache") or not os.access(thresholds[0], os.W_OK):
        pytest.skip("not in the machine's own network namespace")
    was = [path.read_text() for path in thresholds]
    most = int(was[0])
    with network() as inside:
        for words in (
            "link add pw0 type veth peer name pw1", "addr add 10.214.0.1/16 dev pw0", "link set pw1 up",
            "link set pw0 up",
        ):  # fmt: skip
            run(*inside, "ip", *words.split())
        with filler("neighbours", "10.214", prefix=inside) as child:
            before = look("neighbours-ipv4")
            assert child.to(int(0.8 * most)) == (int(0.8 * most), 0)
            table = look("neighbours-ipv4")
            assert (table["limit"], table["state"]) == (most, "near")
            assert table["used"] >= 0.8 * most
            # What is older than five seconds may be thrown out to make room, so one burst has to be enough.
            number = most
            for _try in range(3):
                number, stopped = child.to(number + most + 100)
                if stopped:
                    break
            assert stopped == "ENOBUFS"
            table = look("neighbours-ipv4")
            assert table["state"] == "over"
            assert table["failures"] > before["failures"]
            assert "ENOBUFS" in table["symptom"]
            assert table["who"][0]["name"] == "other network namespaces"
            try:
                back = typed(table["type"], tmp_path)
                assert child.to(number + 20) == (number + 20, 0)
                assert look("neighbours-ipv4")["state"] == "fine"
                back("--force")
                assert [path.read_text() for path in thresholds] == was
            finally:
                for path, text in zip(thresholds, was, strict=True):
                    path.write_text(text)


def test_keys_of_a_user(tmp_path):
    limit, uid = Path("/proc/sys/kernel/keys/maxkeys"), 54_321
    was = limit.read_text()
    most = int(was)
    with filler("keys", uid) as child:
        got, stopped = child.to(int(0.8 * most))
        assert not stopped
        table = look("keys", of=f"uid {uid}")
        assert (table["limit"], table["state"]) == (most, "near")
        assert table["used"] >= got
        assert child.to(2 * most)[1] == "EDQUOT"
        table = look("keys", of=f"uid {uid}")
        assert (table["used"], table["state"], table["setting"]) == (most, "over", "kernel.keys.maxkeys")
        try:
            back = typed(table["type"], tmp_path)
            assert child.to(most + 5) == (most + 5, 0)
            assert look("keys", of=f"uid {uid}")["state"] == "fine"
            back()
            assert limit.read_text() == was
        finally:
            limit.write_text(was)


def test_terminals_of_a_mount(tmp_path):
    with filler("files", prefix=("unshare", "-m")) as keeper:
        inside = ("nsenter", "-t", str(keeper.pid), "-m")
        run(*inside, "mount", "-t", "devpts", "-o", "ptmxmode=0666,max=10", "devpts", str(tmp_path))
        with filler("ptys", tmp_path, prefix=inside) as child:
            assert child.to(8) == (8, 0)
            table = look("ptys", of=str(tmp_path), prefix=inside)
            assert (table["used"], table["limit"], table["state"]) == (8, 10, "near")
            assert child.to(11) == (10, "ENOSPC")
            table = look("ptys", of=str(tmp_path), prefix=inside)
            assert (table["used"], table["state"]) == (10, "over")
            assert table["type"] == f"sudo mount -o remount,max=20 {tmp_path}"
            run(*inside, *table["type"].split()[1:])
            assert child.to(12) == (12, 0)
            assert look("ptys", of=str(tmp_path), prefix=inside)["state"] == "fine"


def test_asynchronous_io():
    most, used = (int(Path(f"/proc/sys/fs/aio-{name}").read_text()) for name in ("max-nr", "nr"))
    each = (most - used) // 100 or 1
    with filler("aio", each) as child:
        assert child.to(80) == (80, 0)
        table = look("aio")
        assert (table["used"], table["limit"], table["state"]) == (used + 80 * each, most, "near")
        assert child.to(200)[1] == "EAGAIN"
        table = look("aio")
        assert (table["state"], table["setting"]) == ("over", "fs.aio-max-nr")
        assert table["free"] < each
    assert until(lambda: int(Path("/proc/sys/fs/aio-nr").read_text()) < most // 2, "the contexts to go")
    assert look("aio")["state"] == "fine"


def test_mounts_are_counted_in_each_namespace(tmp_path):
    with filler("files", prefix=("unshare", "-m")) as keeper:
        inside = ("nsenter", "-t", str(keeper.pid), "-m")
        run(
            *inside, "sh", "-c", 'i=0; while [ $i -lt 40 ]; do mount --bind "$1" "$1"; i=$((i+1)); done', "sh", tmp_path
        )
        lines = len(Path(f"/proc/{keeper.pid}/mountinfo").read_text().splitlines())
        assert look("mounts", of=f"pid {keeper.pid}")["used"] == lines
        assert look("mounts", of="ours", prefix=inside)["used"] == lines


_MAY_BE_GONE = (Table.USER_TASKS, Table.PROCESS_FILES, Table.CGROUP_PIDS)  # others' processes; typed above


def test_every_command_is_taken_here(capsys):
    """Whatever the state of this machine's tables: what would be printed of each, rehearsed."""
    for gauge in [*tables.People(20.0).tables(), *tables.network()]:
        if (text := command(gauge)) and gauge.scope is not Scope.MOUNT and gauge.table not in _MAY_BE_GONE:
            code = main([*shlex.split(text)[2:], "--dry-run"])
            assert code == 0, (text, capsys.readouterr())


def test_errors_are_those_of_this_machine():
    """What the texts name is what the tests above were stopped by."""
    assert all(any(name in about.symptom for name in errno.errorcode.values()) or "log:" in about.symptom
               for about in ABOUT.values())  # fmt: skip

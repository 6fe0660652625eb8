"""The lab itself: what it does when things are missing or fail, and that no test is dropped silently."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from lab import kernels, machine, table
from lab.cpio import Archive
from lab.errors import LabError, Unavailable
from lab.kernels import Kernel
from lab.machine import Died, Hardware, Machine
from lab.plan import ALL_RUNS, NOT_IN_GUEST
from lab.plugin import Runner, stands_still

ROOT = Path(__file__).parents[2]


def test_every_host_test_runs_in_a_machine_or_says_why_not():
    known = [t for run in ALL_RUNS for t in run.tests] + list(NOT_IN_GUEST)
    for file in [f for folder in ("host", "contract") for f in (ROOT / "tests" / folder).glob("test_*.py")]:
        assert str(file.relative_to(ROOT)) in known


def test_every_test_of_the_guest_is_in_a_run():
    known = [t for run in ALL_RUNS for t in run.tests]
    for file in (ROOT / "tests/vm/guest").glob("test_*.py"):
        assert str(file.relative_to(ROOT)) in known


@pytest.mark.parametrize("run", ALL_RUNS, ids=[r.name for r in ALL_RUNS])
def test_what_a_run_names_is_there(run):
    assert run.kernel in kernels.SUITES
    for test in run.tests:
        assert (ROOT / test.partition("::")[0]).exists()


def test_a_kernel_nobody_knows_is_named_with_those_there_are():
    with pytest.raises(LabError, match=r"bookworm \(6\.1\)"):
        kernels.find("3.2")
    with pytest.raises(LabError, match="no such kernel image"):
        kernels.find("/nowhere/vmlinuz")


def test_a_mirror_that_does_not_answer_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PIDWARDEN_VM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIDWARDEN_VM_MIRROR", "http://127.0.0.1:9/debian")
    with pytest.raises(Unavailable, match=r"cannot fetch the kernel of bookworm(.|\n)*PIDWARDEN_VM_MIRROR"):
        kernels.find("6.1")
    assert list((tmp_path / "kernels").iterdir()) == []


def test_a_machine_without_a_debian_mirror_says_what_to_set(monkeypatch):
    monkeypatch.delenv("PIDWARDEN_VM_MIRROR", raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *a, **_: subprocess.CompletedProcess(a, 0, "noble|main|http://x/\n"))
    with pytest.raises(Unavailable, match="PIDWARDEN_VM_MIRROR"):
        kernels.mirror()


def test_without_qemu_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="apt-get install qemu-system-x86"):
        machine.emulator()


def test_the_archive_is_one_that_cpio_reads(tmp_path):
    source = tmp_path / "file"
    source.write_text("text")
    with open(tmp_path / "archive", "wb") as out:
        archive = Archive(out)
        archive.folder("a/b")
        archive.link("a/link", "b")
        archive.data("a/b/data", b"12345")
        archive.file("a/b/data", source)  # nothing is added twice
        archive.file("c/file", source)
        archive.end()
    if not shutil.which("cpio"):
        pytest.skip("no cpio here to read it with")
    with open(tmp_path / "archive", "rb") as file:
        listed = subprocess.run(["cpio", "-t", "--quiet"], stdin=file, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["a", "a/b", "a/link", "a/b/data", "c", "c/file"]


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_a_machine_that_panics_is_reported_with_the_end_of_its_log():
    with pytest.raises(Died) as died:
        hear_all(Machine(kernels.find(), Hardware(append="rdinit=/nowhere init=/nowhere root=/dev/nowhere"), []))
    assert "ended before its tests did" in str(died.value)
    assert "Kernel panic" in str(died.value)
    log = Path(str(died.value).partition("Its serial log is ")[2].partition(", and ends")[0])
    assert "Kernel panic" in log.read_text(errors="replace")
    log.unlink()


@pytest.mark.vm
@pytest.mark.timeout(300)
def test_a_machine_that_says_nothing_is_ended():
    with (
        pytest.raises(Died, match=r"said nothing for 3 s(.|\n)*serial log"),
        Machine(kernels.find(), Hardware(), []) as running,
    ):
        running.hear(3)  # takes longer than that to boot
    Path(running.log).unlink(missing_ok=True)


def hear_all(made):
    with made as running:
        while running.hear(200) is not None:
            pass


class Script:
    """A machine that says what the test wants."""

    def __init__(self, *events):
        self.events, self.keep, self.log = list(events), False, "the-log"
        self.kernel, self.closed = Kernel("k", "1.2", Path("/k")), False

    def hear(self, _seconds):
        event = self.events.pop(0)
        if isinstance(event, Exception):
            raise event
        return event

    def __exit__(self, *_):
        self.closed = True


def runner(monkeypatch, tests, *boots):
    made = Runner(ALL_RUNS[0])
    made.tests = list(tests)
    waiting = list(boots)
    asked = []

    def boot():
        asked.append([t for t in made.tests if t not in made._results])
        made._machine, made._started, made._progress = waiting.pop(0), None, False

    monkeypatch.setattr(made, "_boot", boot)
    return made, asked


def result(test, outcome="passed"):
    return {"event": "result", "test": test, "outcome": outcome, "text": "why", "figures": {}}


def test_a_test_that_takes_the_machine_down_fails_and_the_others_get_another(monkeypatch):
    made, asked = runner(
        monkeypatch,
        "abc",
        Script(
            {"event": "up"}, {"event": "start", "test": "a"}, result("a"), {"event": "start", "test": "b"}, Died("x")
        ),
        Script({"event": "up"}, {"event": "start", "test": "c"}, result("c"), {"event": "end"}, None),
    )
    assert made.result("a")["outcome"] == "passed"
    assert made.result("b") == {"outcome": "failed", "text": "x", "figures": {}}
    assert made.result("c")["outcome"] == "passed"
    assert asked == [["a", "b", "c"], ["c"]]


def test_a_machine_that_is_lost_once_is_told_with_the_result_of_the_next(monkeypatch):
    made, _ = runner(
        monkeypatch,
        "a",
        Script({"event": "up"}, {"event": "start", "test": "a"}, Died("EFLAGS: 857806a6\nits log")),
        Script({"event": "up"}, {"event": "start", "test": "a"}, result("a"), {"event": "end"}, None),
    )
    assert made.result("a")["outcome"] == "passed"
    assert made.result("a")["figures"] == {"a machine that was lost at it before": "EFLAGS: 857806a6"}


def stalled(*places, code="e8 ef 9a 1c 00 <66> 90 48 8d"):
    """What the kernel writes when a processor does not get on; 6.1 stood like this for six minutes."""
    return "\n".join(
        f"[  {n}.0] RIP: 0010:{place}\n[  {n}.0] Code: cc {code}\n[  {n}.0] RSP: 0" for n, place in enumerate(places)
    )


def test_a_processor_that_stands_before_an_instruction_that_does_nothing_has_failed():
    here = "delayed_put_task_struct+0x21/0xa0"
    assert stands_still(stalled(here, here, here))
    assert not stands_still(stalled(here, here))
    assert not stands_still(stalled(here, "elsewhere+0x1/0x2", here))
    assert not stands_still(stalled(here, here, here, code="e8 ef 9a 1c 00 <f3> 90 48 8d"))  # pause: it spins
    assert not stands_still("")


def test_a_machine_that_never_comes_up_is_tried_twice_and_fails_them_all(monkeypatch):
    made, asked = runner(monkeypatch, "abcd", Script(Died("no boot")), Script(Died("no boot")))
    assert [made.result(t)["text"] for t in "abcd"] == ["no boot"] * 4
    assert asked == [["a", "b", "c", "d"]] * 2


def test_a_boot_that_failed_is_tried_again_and_told(monkeypatch):
    made, _ = runner(
        monkeypatch,
        "a",
        Script(Died("double fault\nits log")),
        Script({"event": "up"}, {"event": "start", "test": "a"}, result("a"), {"event": "end"}, None),
    )
    assert made.result("a")["outcome"] == "passed"
    assert made.result("a")["figures"] == {"a boot that failed before": "double fault"}


def test_a_test_the_guest_did_not_run_fails_with_what_it_could_not_collect(monkeypatch):
    broken = {"event": "broken", "where": "tests/x.py", "text": "SyntaxError"}
    made, _ = runner(monkeypatch, "a", Script({"event": "up"}, broken, {"event": "end"}, None))
    assert made.result("a")["outcome"] == "failed"
    assert "SyntaxError" in made.result("a")["text"]


def test_a_failure_names_the_kernel_and_the_log(monkeypatch):
    made, _ = runner(monkeypatch, "a", Script({"event": "up"}, result("a", "failed"), {"event": "end"}, None))
    text = made.result("a")["text"]
    assert text.startswith("why\n")
    assert "1.2" in text
    assert "the-log" in text


def test_the_table_says_why_a_kernel_does_not_load():
    said = ["libbpf: loading", "libbpf: prog 'x': failed to load: -22"]
    results = [
        result("test_what_this_kernel_has") | {"figures": {"not LSM": "EPERM", "libbpf": said}},
        result("test_it_loads", "failed"),
        result("test_a_bomb[tight]", "failed"),
    ]
    row = table.row("bullseye", "5.10", results)
    assert (row.loads, row.contained, row.gate) == ("no", "-", "-")
    assert row.missing == ("not LSM: EPERM", "libbpf: libbpf: prog 'x': failed to load: -22")


def test_the_table_counts_the_bombs():
    results = [
        result("test_it_loads"),
        result("test_a_bomb[a]") | {"figures": {"gate": "g"}},
        result("test_a_bomb[b]", "failed"),
    ]
    row = table.row("bookworm", "6.1", results)
    assert (row.loads, row.contained, row.gate, row.missing) == ("yes", "1/2", "g", ())

"""What the probe makes of an answer, and what the doctor says when one thing at a time is missing."""

from __future__ import annotations

import errno
import json
import os

import pytest

from pidwarden.cli import doctor
from pidwarden.cli.doctor import TABLE, as_json, as_text, blockers, can_guard, can_hold, find, ways_out
from pidwarden.errors import NoPermission, NotPossible
from pidwarden.kernel import bpf, cgroup, libbpf, probe, procfs, trial
from pidwarden.kernel.probe import LOOKS, Absent, Fact, State, attempt

NAMES = [name for name, _look, _remedy in LOOKS]
HOOKS = ("LSM programs", "fmod_ret programs")  # without these there is only the gate at system call entry
REQUIRED, GATED = doctor._REQUIRED, doctor._GATED


def facts(**changes):
    """Everything is there, but for what is named: (state, detail). Underscores stand for blanks."""
    found = {name: Fact(name, State.YES, f"{name} is there", f"remedy for {name}") for name in NAMES}
    for name, (state, detail) in changes.items():
        found[name] = Fact(name, state, detail, f"remedy for {name}")
    return list(found.values())


def without(*names, state=State.NO):
    return facts(**{name: (state, f"{name} is refused") for name in names})


def by_name(found):
    return {fact.name: fact for fact in found}


def finding(capability, found):
    return find(next(c for c in TABLE if c.name == capability), by_name(found))


def raising(error):
    def look():
        raise error

    return look


# -- a look becomes a fact ---------------------------------------------------------------------------------------------


def test_what_is_there():
    assert attempt("x", lambda: "found", "buy it") == Fact("x", State.YES, "found")


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (Absent("not built in"), "not built in"),
        (OSError(errno.EINVAL, "Invalid argument"), "Invalid argument (EINVAL)"),
        (OSError(errno.EPERM, "no"), "Operation not permitted (EPERM)"),
        (FileNotFoundError(errno.ENOENT, "no", "/sys/x"), "/sys/x: No such file or directory (ENOENT)"),
        (NotPossible("the package was not built"), "the package was not built"),
    ],
)
def test_what_is_not_there_keeps_the_reason_in_words_and_the_remedy(monkeypatch, error, detail):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert attempt("x", raising(error), "buy it") == Fact("x", State.NO, detail, "buy it")


def chained(code):
    error = NotPossible("tracefs cannot be opened")
    error.__cause__ = OSError(code, "")
    return error


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, ""), NoPermission("root only"), chained(errno.EPERM)])
def test_a_refusal_to_an_ordinary_user_says_nothing_about_the_machine(monkeypatch, error):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = attempt("x", raising(error), "buy it")
    assert found.state is State.UNKNOWN
    assert "sudo" in found.remedy


@pytest.mark.parametrize("error", [Absent("none"), OSError(errno.ENOSYS, ""), chained(errno.ENODEV)])
def test_other_failures_are_facts_for_an_ordinary_user_too(monkeypatch, error):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert attempt("x", raising(error)).state is State.NO


# -- single looks ------------------------------------------------------------------------------------------------------


def look(name):
    return attempt(*next(entry for entry in LOOKS if entry[0] == name))


def status_with(tmp_path, monkeypatch, *caps):
    bits = sum(1 << probe._CAPS[name] for name in caps)
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"Name:\tx\nCapEff:\t{bits:016x}\n")
    monkeypatch.setattr(procfs, "PROC", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return look("capabilities")


def test_either_the_new_capabilities_or_the_old_one_will_do(tmp_path, monkeypatch):
    rest = ("KILL", "IPC_LOCK", "SYS_NICE", "SYS_RESOURCE")
    assert status_with(tmp_path, monkeypatch, "BPF", "PERFMON", *rest).detail == "all that are needed"


def test_the_old_capability_alone(tmp_path, monkeypatch):
    found = status_with(tmp_path, monkeypatch, "SYS_ADMIN", "KILL", "IPC_LOCK", "SYS_NICE")
    assert found.state is State.YES
    assert "no CAP_SYS_RESOURCE: the guard is not safe from the out-of-memory killer" in found.detail


@pytest.mark.parametrize(("caps", "lacking"), [(("BPF", "KILL"), "CAP_PERFMON"), (("SYS_ADMIN",), "CAP_KILL")])
def test_a_capability_that_is_needed(tmp_path, monkeypatch, caps, lacking):
    found = status_with(tmp_path, monkeypatch, *caps)
    assert (found.state, found.detail) == (State.NO, f"without {lacking}")


@pytest.mark.parametrize(
    ("text", "state"),
    [("lockdown,capability,bpf", State.YES), ("lockdown,capability", State.NO), ("bpfx", State.NO), ("", State.NO)],
)
def test_bpf_among_the_active_security_modules(monkeypatch, text, state):
    monkeypatch.setattr(trial, "security", lambda _name: text)
    assert look("BPF among the LSMs").state is state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("[none] integrity confidentiality", State.YES),
        ("none [integrity] confidentiality", State.YES),
        ("none integrity [confidentiality]", State.NO),
    ],
)
def test_lockdown(monkeypatch, text, state):
    monkeypatch.setattr(trial, "security", lambda _name: text)
    assert look("lockdown").state is state


@pytest.mark.parametrize(("value", "state"), [(0, State.NO), (1, State.YES), (2, State.YES), (None, State.NO)])
def test_bpf_for_ordinary_users(monkeypatch, value, state):
    monkeypatch.setattr(procfs, "read_int", lambda _path: value)
    assert look("BPF closed to users").state is state


@pytest.mark.parametrize(
    ("mounts", "detail"),
    [
        (cgroup.Mounts("/v2", {}), "v2"),
        (cgroup.Mounts(None, {"pids": "/v1"}), "v1"),
        (cgroup.Mounts("/v2", {"pids": "/v1"}), "hybrid (v1 and v2)"),
        (cgroup.Mounts(None, {}), "no cgroup hierarchy is mounted"),
    ],
)
def test_cgroup_layouts(monkeypatch, mounts, detail):
    monkeypatch.setattr(cgroup, "mounts", lambda: mounts)
    assert look("cgroup layout").detail == detail


@pytest.mark.parametrize("has", [True, False])
def test_cgroup_kill_is_looked_for_in_a_cgroup_and_one_made_for_it_goes(monkeypatch, tmp_path, has):
    made = []

    def mkdir(path):
        made.append(path)
        real_mkdir(path)
        if has:
            (tmp_path / os.path.basename(path) / "cgroup.kill").touch()

    real_mkdir = os.mkdir

    monkeypatch.setattr(cgroup, "mounts", lambda: cgroup.Mounts(str(tmp_path), {}))
    monkeypatch.setattr(probe.os, "mkdir", mkdir)
    monkeypatch.setattr(probe.os, "rmdir", made.remove)
    assert look("cgroup.kill").state is (State.YES if has else State.NO)
    assert made == []


def test_a_proc_that_hides_is_a_fact_for_root_and_unknown_to_others(monkeypatch):
    monkeypatch.setattr(procfs, "stat", lambda _pid: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert look("/proc").state is State.NO
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert look("/proc").state is State.UNKNOWN


@pytest.fixture
def no_libbpf(monkeypatch):
    monkeypatch.setattr(libbpf, "_SONAME", "libnothere.so.9")
    libbpf.library.cache_clear()
    trial.library.cache_clear()
    yield
    monkeypatch.undo()
    libbpf.library.cache_clear()
    trial.library.cache_clear()


@pytest.mark.usefixtures("no_libbpf")
def test_without_libbpf_the_doctor_says_what_to_install():
    found = probe.probe()
    assert by_name(found)["libbpf"].state is State.NO
    assert by_name(found)["raw tracepoints"].state is State.NO
    assert can_hold(found) is False
    assert "apt-get install libbpf1" in as_text(found)


@pytest.mark.usefixtures("no_libbpf")
def test_without_libbpf_loading_is_not_possible_in_one_sentence():
    with pytest.raises(NotPossible) as caught:
        bpf.Programs.load()
    assert caught.value.exit_code == 4
    assert "libnothere.so.9" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_compiled_object(monkeypatch):
    monkeypatch.setattr(
        bpf, "object_path", raising(NotPossible("pidwarden.bpf.o is missing: the package was not built"))
    )
    found = look("pidwarden's BPF object")
    assert found.state is State.NO
    assert "was not built" in found.detail


def test_looking_leaves_no_descriptor_and_no_mount():
    def seen():
        with open("/proc/self/mounts", encoding="utf-8") as file:
            mounts = [line for line in file if line.split()[2] in ("securityfs", "tracefs")]
        return sorted(os.listdir("/proc/self/fd")), mounts

    probe.probe()  # libraries stay loaded
    before = seen()
    found = probe.probe()
    assert seen() == before
    assert [fact.name for fact in found] == NAMES


# -- what follows from the facts ---------------------------------------------------------------------------------------


def test_every_name_that_a_rule_uses_is_looked_for():
    used = {name for capability in TABLE for way in capability.ways for name in way.needs}
    assert used | set(REQUIRED) <= set(NAMES)


def test_the_table_has_the_four_capabilities_of_the_design():
    assert [c.name for c in TABLE] == ["know the families", "hold", "kill and prove", "list processes"]


def test_with_everything_the_guard_works_and_better_ways_are_said_to_be_unused():
    found = facts()
    assert can_guard(found) is True
    assert can_hold(found) is True
    assert finding("kill and prove", without("cgroup.kill")).used.name == "closed set by pidfd"
    assert all("does not use it yet" in passed.reason for passed in finding("list processes", found).passed)
    assert "the guard can work here" in as_text(found)


@pytest.mark.parametrize(
    ("lacking", "name"),
    [
        ((), "BPF LSM hook task_alloc"),
        (("BPF among the LSMs",), "fmod_ret on security_task_alloc"),
        (("LSM programs",), "fmod_ret on security_task_alloc"),
        (("LSM programs", "fmod_ret programs"), "stop at system call entry"),
        (("fmod_ret programs", "tracefs"), "BPF LSM hook task_alloc"),
    ],
)
def test_the_gate_is_the_first_that_nothing_speaks_against(lacking, name):
    found = without(*lacking)
    assert can_hold(found) is True
    used = finding("hold", found)
    assert used.used.name == name
    assert {passed.change for passed in used.passed} <= {f"remedy for {fact}" for fact in lacking}


def test_without_any_gate_the_guard_works_by_sweeps_and_says_so():
    found = without("LSM programs", "fmod_ret programs", "tracefs", "system call tracepoints")
    assert can_guard(found) is True
    assert can_hold(found) is False
    assert [fact.name for fact in blockers(found)] == ["tracefs", "system call tracepoints"]


@pytest.mark.parametrize("name", REQUIRED)
def test_without_one_thing_that_is_required_the_guard_cannot_work(name):
    found = without(name)
    assert can_guard(found) is False
    assert [fact.name for fact in blockers(found)] == [name]
    first = " ".join(as_text(found).split("\n\n", 1)[0].split())
    assert f"the guard cannot work here: {name}: {name} is refused; remedy for {name}" in first


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(REQUIRED) - {"root"}))
def test_without_one_thing_that_is_not_required_it_can(name):
    assert can_guard(without(name)) is True


@pytest.mark.parametrize("name", GATED)
def test_without_one_thing_that_every_gate_needs_there_is_none(name):
    found = without(name)
    assert can_hold(found) is False
    assert [fact.name for fact in blockers(found)] == [name]
    first = " ".join(as_text(found).split("\n\n", 1)[0].split())
    assert "can work here, but without a gate" in first
    assert f"{name}: {name} is refused; remedy for {name}" in first


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_missing_is_shown_with_its_reason_and_remedy(name):
    text = " ".join(as_text(without(name)).split())
    assert f"no {name} " in text
    assert f"{name} is refused -> remedy for {name}" in text


@pytest.mark.parametrize("capability", TABLE, ids=lambda c: c.name)
def test_a_way_is_not_taken_without_what_it_needs(capability):
    used = finding(capability.name, facts()).used
    for name in used.needs:
        less = finding(capability.name, without(name))
        assert less.used != used
        passed = next(p for p in less.passed if p.way == used)
        assert f"{name} is refused" in passed.reason
        assert passed.change == f"remedy for {name}"


@pytest.mark.parametrize("name", ["LSM programs", "BPF among the LSMs"])
def test_a_better_way_that_is_not_here_says_why_and_what_would_change_it(name):
    best = finding("hold", without(name)).passed[0]
    assert f"not here: {name} ({name} is refused)" in best.reason
    assert best.change == f"remedy for {name}"


def test_causes_come_before_effects():
    found = without("libbpf", "raw tracepoints", "pidwarden's BPF object")
    assert [fact.name for fact in blockers(found)] == ["libbpf", "raw tracepoints", "pidwarden's BPF object"]


def test_what_was_not_tried_leaves_it_open():
    found = without(*REQUIRED, *GATED, "root", state=State.UNKNOWN)
    assert can_guard(found) is None
    assert can_hold(found) is None
    assert finding("hold", found).sure is False
    text = " ".join(as_text(found).split())
    assert "type `sudo pidwarden doctor` to be sure" in text
    assert "(not tried without root)" in text


def test_an_ordinary_user_who_may_do_everything_is_still_not_root():
    assert can_guard(without("root")) is None


def test_the_hole_of_32_bit_calls_is_told_as_it_is_here():
    used = finding("hold", without(*HOOKS)).used
    assert "attaches sys_enter" in ways_out(used, by_name(facts()))
    assert "cannot be closed here" in ways_out(used, by_name(without("every-call tracepoint")))
    assert "32-bit" not in ways_out(used, by_name(without("32-bit calls")))
    assert "32-bit" not in ways_out(finding("hold", facts()).used, by_name(facts()))


def test_a_hold_without_pins_ends_with_its_guard():
    used = finding("hold", facts()).used
    assert "the hold ends if the guard is killed" in ways_out(used, by_name(without("bpf file system")))
    assert "the hold ends if the guard is killed" not in ways_out(used, by_name(facts()))


def test_json_is_one_object_that_says_the_same():
    found = json.loads(json.dumps(as_json(without("tracefs", *HOOKS))))
    assert found["can_guard"] is True
    assert found["can_hold"] is False
    assert found["blockers"][0]["name"] == "tracefs"
    hold = next(c for c in found["capabilities"] if c["capability"] == "hold")
    assert hold["used"] == "none: SIGSTOP in sweeps, then the kill"
    assert len(hold["better"]) == 3
    assert {fact["state"] for fact in found["facts"]} == {"yes", "no"}

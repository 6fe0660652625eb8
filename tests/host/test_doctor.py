"""`pidwarden doctor` on this machine: it says what is true, to whomever asks, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from cli_kit import forget_copy, guard, nobody_cli, pidwarden_cli, sleeper

from pidwarden.cli.doctor import TABLE
from pidwarden.kernel.probe import LOOKS

pytestmark = pytest.mark.root
NAMES = {name for name, _look, _remedy in LOOKS}
_LACKING = ("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-bpf,-perfmon,-sys_admin")


@pytest.fixture(autouse=True, scope="module")
def copy():
    yield
    forget_copy()


def diagnosis(done):
    assert "Traceback" not in done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    return found, {fact["name"]: fact for fact in found["facts"]}


def test_it_looks_at_everything_and_its_exit_code_is_its_verdict():
    done = pidwarden_cli("doctor", "--json")
    found, facts = diagnosis(done)
    assert set(facts) == NAMES
    assert [c["capability"] for c in found["capabilities"]] == [c.name for c in TABLE]
    assert done.returncode == (0 if found["can_guard"] else 1)
    assert bool(found["blockers"]) is (found["can_hold"] is False)
    assert all(fact["state"] != "unknown" for fact in facts.values())
    assert all(fact["detail"] for fact in facts.values())
    assert found["rescue"]["state"] in ("ready", "absent", "stale")
    assert bool(found["rescue"]["remedy"]) is (found["rescue"]["state"] != "ready")


def test_the_text_names_the_way_taken_and_how_to_get_away_from_it():
    found, _facts = diagnosis(pidwarden_cli("doctor", "--json"))
    text = " ".join(pidwarden_cli("doctor").stdout.split())
    for capability in found["capabilities"]:
        assert f"{capability['capability']}: {capability['used'] or 'NOT POSSIBLE HERE'}" in text
        assert capability["escapes"] in text
        for better in capability["better"]:
            assert f"{better['way']}: {better['reason']}" in text


@pytest.mark.bpf
def test_what_it_promises_the_guard_keeps():
    found, _facts = diagnosis(pidwarden_cli("doctor", "--json"))
    assert found["can_guard"] is True
    with sleeper() as pid, guard(f"/run/pidwarden-doctor-{os.getpid()}", only=pid):
        pass


def test_it_changes_nothing():
    def seen():
        with open("/proc/self/mounts", encoding="utf-8") as file:
            mounts = file.read()
        bpffs = [name for name in os.listdir("/sys/fs/bpf") if name.startswith("pidwarden_probe")]
        groups = [name for name in _v2_children() if name.startswith("pidwarden-probe")]
        return mounts.count("securityfs"), mounts.count("tracefs"), bpffs, groups

    before = seen()
    pidwarden_cli("doctor")
    assert seen() == before


def _v2_children():
    with open("/proc/self/mounts", encoding="utf-8") as file:
        roots = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
    return [name for root in roots for name in os.listdir(root)]


def test_an_ordinary_user_is_told_what_could_not_be_tried():
    done = nobody_cli("doctor", "--json")
    found, facts = diagnosis(done)
    assert done.returncode == 0
    assert found["can_guard"] is None
    assert facts["root"]["state"] == "no"
    assert facts["capabilities"]["state"] == "unknown"
    assert facts["raw tracepoints"]["state"] == "unknown"
    assert facts["pidfd"]["state"] == "yes"
    assert "sudo pidwarden doctor" in nobody_cli("doctor").stdout


def test_root_without_the_capabilities_is_told_which():
    done = pidwarden_cli("doctor", "--json", prefix=_LACKING)
    found, facts = diagnosis(done)
    assert done.returncode == 0
    assert found["can_guard"] is True
    assert found["can_hold"] is False
    assert found["blockers"][0]["name"] == "capabilities"
    assert "CAP_BPF" in facts["capabilities"]["detail"]
    assert facts["raw tracepoints"]["state"] == "no"
    assert "Operation not permitted (EPERM)" in facts["raw tracepoints"]["detail"]
    text = " ".join(pidwarden_cli("doctor", prefix=_LACKING).stdout.split())
    assert "without a gate, so that a bomb grows until it is caught: capabilities: without CAP_BPF, CAP_PERF" in text


@pytest.mark.skipif(not shutil.which("unshare"), reason="no unshare(1)")
def test_a_container_with_its_own_process_ids_is_no_place_for_a_gate():
    done = pidwarden_cli("doctor", "--json", prefix=("unshare", "--pid", "--fork", "--mount-proc"))
    found, facts = diagnosis(done)
    assert done.returncode == 0
    assert found["can_hold"] is False
    assert facts["PID namespace"]["state"] == "no"
    assert "PID namespace" in [fact["name"] for fact in found["blockers"]]


@pytest.mark.skipif(not shutil.which("unshare"), reason="no unshare(1)")
def test_a_proc_that_hides_processes():
    """In PID and mount namespaces of its own, so that this machine's /proc stays as it is."""
    hide = 'mount -t proc -o hidepid=2 proc /proc && "$@"; exit $?'
    prefix = ("unshare", "--pid", "--fork", "--mount", "sh", "-c", hide, "sh")
    _found, facts = diagnosis(nobody_cli("doctor", "--json", prefix=prefix))
    assert facts["/proc"]["state"] == "unknown"
    _found, facts = diagnosis(pidwarden_cli("doctor", "--json", prefix=prefix))
    assert facts["/proc"]["state"] == "yes"

"""`pidwarden tables` as a command: its text, its exit codes, what an ordinary user is told, and hostile names."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cli_kit import forget_copy, gone_pid, nobody_cli, one_sentence, pidwarden_cli

from pidwarden.model.gauge import Table

pytestmark = [pytest.mark.root]
HOSTILE = b") Z 1 (\n\x1b[2J\xff"


@pytest.fixture(scope="module", autouse=True)
def _tidy():
    yield
    forget_copy()


def test_all_tables_in_one_view():
    done = pidwarden_cli("tables", "--json")
    assert done.returncode in (0, 1)
    found = json.loads(done.stdout)
    seen = {t["table"] for t in found["tables"]}
    assert seen >= {*Table} - {"conntrack", "cgroup-pids", "user-tasks", "process-files"}
    assert all(t["symptom"] and t["remedy"] for t in found["tables"])
    shares = [t["share"] for t in found["tables"] if t["share"] is not None]
    assert shares == sorted(shares, reverse=True)
    tasks = next(t["used"] for t in found["tables"] if t["table"] == "threads")
    with open("/proc/loadavg", encoding="ascii") as file:
        assert abs(tasks - int(file.read().split()[3].split("/")[1])) < 5000


def test_a_namespace_that_a_container_began_with_counts_in_its_user_namespace():
    container = ("unshare", "-U", "-r", "-n", "-p", "-f", "--mount-proc")
    found = json.loads(pidwarden_cli("tables", "namespaces", "--all", "--json", prefix=container).stdout)["tables"]
    assert {t["of"]: t["used"] for t in found} | {"net": 1, "pid": 1} == {t["of"]: t["used"] for t in found}
    assert next(t["used"] for t in found if t["of"] == "uts") == 0  # the machine's own


def test_a_name_that_breaks_nothing():
    code = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "while True:\n try: os.open('/dev/null', 0)\n except OSError: break\n"
        f"os.close(40); open('/proc/self/comm', 'wb', 0).write({HOSTILE!r})\nprint(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        try:
            child.stdout.readline()
            done = pidwarden_cli("tables", "--patience", "20")
            assert done.returncode == 1
            lines = [line for line in done.stdout.splitlines() if f"pid {child.pid} (" in line]
            assert any(line.startswith("OVER: open files of a process: pid ") for line in lines)
            assert all(line.isprintable() for line in done.stdout.splitlines())
            assert "Too many open files" in done.stdout
            assert f"sudo pidwarden limits set nofile:{child.pid} 128" in done.stdout
            assert pidwarden_cli("tables", "aio").returncode == 0
        finally:
            child.kill()


def test_an_ordinary_user_is_told_what_is_not_seen():
    done = nobody_cli("tables")
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "process ids" in done.stdout
    assert "not ours to look at: `sudo pidwarden tables`" in done.stdout.partition("not seen:")[2]
    line = one_sentence(nobody_cli("tables", "--netns", "1"), 3)
    assert "sudo pidwarden tables" in line


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("sockets",), 2, "there is no table 'sockets'"),
        (("--netns", "/etc/passwd"), 1, "is no network namespace"),
        (("--netns", "/nowhere"), 1, "No such file or directory"),
        (("keys", "--netns", "1"), 2, "keys is not of a network namespace"),
        (("--config", "/nowhere"), 2, "cannot read the configuration"),
    ],
)
def test_what_cannot_be_done(arguments, code, part):
    assert part in one_sentence(pidwarden_cli("tables", *arguments), code)


def test_a_process_that_is_gone():
    assert "--netns PID" in one_sentence(pidwarden_cli("tables", "--netns", str(gone_pid())), 1)


def test_thresholds_of_the_configuration_and_of_the_command(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[tables]\nnear = 0.00001\nover = 1.0\n[tables.shares]\nthreads = 0.00001\n")
    done = pidwarden_cli("tables", "threads", "pids", "--json", "--config", str(path))
    assert {t["table"]: t["state"] for t in json.loads(done.stdout)["tables"]} == {"threads": "over", "pids": "near"}
    assert done.returncode == 1
    assert pidwarden_cli("tables", "threads", "--over", "0.001%").returncode == 1
    path.write_text("[tables.shares]\nsockets = 0.5\n")
    assert "sockets" in one_sentence(pidwarden_cli("tables", "--config", str(path)), 2)


def test_it_looks_again_and_again():
    argv = [sys.executable, "-m", "pidwarden", "tables", "threads", "--json", "--watch", "0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            looks = [json.loads(child.stdout.readline()) for _ in range(3)]
        finally:
            child.kill()
    assert all(found["tables"][0]["trend"] for found in looks)

"""What the tests of commands share: the command line as root and as an ordinary user, a guard, what it left behind."""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from kit import until

import pidwarden
from pidwarden.guard.control import ask

NOBODY = 65534
SECONDS = 60


def dropped(uid):
    """The words that run a program as an ordinary user."""
    return "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"


DROP = dropped(NOBODY)


def pidwarden_cli(*arguments, prefix=(), **options):
    """One command as we are; `prefix` is a program that starts it."""
    argv = [*prefix, sys.executable, "-m", "pidwarden", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False, **options)


@functools.cache
def _copy():
    """The package and msgspec where an ordinary user can read them: a checkout in root's home is closed to others."""
    where = tempfile.mkdtemp(prefix="pidwarden-cli-")
    for package in (pidwarden, msgspec):
        folder = Path(package.__file__).parent
        shutil.copytree(folder, f"{where}/{folder.name}", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", where], check=True)
    return where


@functools.cache
def nobodys_python():
    """An interpreter of our version that an ordinary user may run."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        with contextlib.suppress(OSError):
            check = [*DROP, path, "-c", f"import sys; sys.exit('{version}' != '%d.%d' % sys.version_info[:2])"]
            if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                return path
    return pytest.skip(f"no Python {version} that an ordinary user may run")


def nobodys_environment():
    """For that interpreter."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": _copy(), "PYTHONDONTWRITEBYTECODE": "1"}


def nobody_cli(*arguments, prefix=(), uid=NOBODY):
    """One command as an ordinary user."""
    argv = [*prefix, *dropped(uid), nobodys_python(), "-m", "pidwarden", *arguments]
    options = {"capture_output": True, "text": True, "timeout": SECONDS, "cwd": "/"}
    return subprocess.run(argv, check=False, env=nobodys_environment(), **options)


def forget_copy():
    if _copy.cache_info().currsize:
        shutil.rmtree(_copy())
        _copy.cache_clear()


def one_sentence(done, code):
    """Checks the exit code, that nothing crashed, and that there is exactly one line to read; that line."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("pidwarden ")
    return lines[0]


def left_behind(name):
    """What a run directory's name is still found as, in /run and among the pins."""
    return glob.glob(f"/run/{name}*") + glob.glob(f"/sys/fs/bpf/{name}*")


class RunningGuard:
    """A guard of its own, in scope of nothing but one process of ours."""

    def __init__(self, run_dir, *arguments, only):
        self.run_dir = run_dir
        argv = [sys.executable, "-m", "pidwarden", "guard", "--only", f"pid:{only}", "--json", "--run-dir", run_dir]
        self.process = subprocess.Popen([*argv, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"the guard did not start: {self.process.stderr.read()}")
        assert json.loads(line)["event"] == "ready"
        until(lambda: ask(run_dir, "status"), "its answer", SECONDS)

    def end(self):
        """Stops it in order. May be called twice."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.communicate(timeout=SECONDS)
            assert self.process.returncode == 0


@contextlib.contextmanager
def guard(run_dir, *arguments, only):
    """A running guard, ended with the test."""
    running = RunningGuard(run_dir, *arguments, only=only)
    try:
        yield running
    finally:
        running.end()


@contextlib.contextmanager
def sleeper():
    """A process that does nothing, for a guard's scope."""
    process = subprocess.Popen(["sleep", "300"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def gone_pid():
    """A process id that was ours and is nobody's now."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid

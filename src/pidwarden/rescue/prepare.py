"""Copies of the files that a rescue shares with a bomb, so that it need not queue for them behind thousands.

Every fork and every program that starts wants locks of the files that are mapped into it: of their pages, and of the
kernel's list of who maps them. A bomb linked to the same libc leaves those locks to tasks that do not get a processor,
and a rescue may wait for them for minutes (docs/adr/0030). Nobody else maps the copies.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import shutil
import signal
import sys
from shlex import quote
from typing import NamedTuple

from pidwarden.act import ondisk
from pidwarden.errors import NoPermission, NotPossible, PidwardenError
from pidwarden.kernel.libbpf import library
from pidwarden.kernel.procfs import PROC
from pidwarden.rescue import prepared

# What a rescue reads in; what these need comes with them.
_MODULES = ("pidwarden.cli.rescuing", "pidwarden.cli.unattended", "pidwarden.rescue.console", "readline")
_LOADER = "pidwarden"  # what ps shows of a program that the copied loader runs
_SECONDS = 30
_TEXT = """\
# pidwarden rescue, with copies of the files that it would share with a bomb. Made by `pidwarden rescue --prepare`.
# Read this in, which starts no process:  . {start}
if [ -x {loader} ]; then
  exec {command} "$@"
fi
"""


class Prepared(NamedTuple):
    """Which files were copied, and the command line that starts a rescue with the copies."""

    copied: list[str]
    command: list[str]


def prepare(directory: str) -> Prepared:
    """Copies them, tries the copies out, and writes the text that starts a rescue with them.

    Raises:
        NoPermission: the directory is not ours to write.
        NotPossible: the copies do not run here.
        PidwardenError: a file cannot be copied.
    """
    directory = os.path.abspath(directory)
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
        found = os.stat(directory)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            msg = f"{directory} can be written by others, who could put programs there; name another directory"
            raise NotPossible(msg)
        loader, libraries = _mapped()
        nice, python = shutil.which("nice"), os.path.realpath(sys.executable)
        copied = [_copy(loader, directory, _LOADER)]
        copied += [_copy(path, directory, os.path.basename(path)) for path in (*libraries, nice, python) if path]
        for path in libraries:
            _link_names(path, directory)
    except PermissionError as why:
        msg = f"{why.filename or directory}: {why.strerror}; type `sudo pidwarden rescue --prepare`"
        raise NoPermission(msg) from why
    except OSError as why:
        msg = f"copying to {directory}: {why.filename or ''}: {why.strerror}; `--prepare DIR` takes another directory"
        raise PidwardenError(msg) from why
    run = [f"{directory}/{_LOADER}", "--library-path", directory]
    own = [*run, "--argv0", sys.executable, f"{directory}/{os.path.basename(python)}"]
    start = next((words for words in (own, [*run, sys.executable]) if _runs(words)), None)
    if start is None:
        msg = f"the copies in {directory} do not run here; `exec nice -n -20 pidwarden rescue` does without them"
        raise NotPossible(msg)
    first = [*run, f"{directory}/nice", "-n", "-20"] if nice else []
    words = [*first, *start, "-P", "-m", "pidwarden", "rescue"]
    target = f"{directory}/{prepared.START}"
    text = _TEXT.format(start=quote(target), loader=quote(words[0]), command=" ".join(map(quote, words)))
    name, made_of = prepared.notes(copied)
    ondisk.replace(f"{directory}/{name}", made_of)
    ondisk.replace(target, text)
    return Prepared([one.path for one in copied], words)


def _mapped() -> tuple[str, list[str]]:
    """The loader and the libraries that a rescue maps; not the interpreter's own modules, which it finds by their path.

    Raises:
        NotPossible: there is no loader: the interpreter is linked statically.
    """
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(PidwardenError):  # without libbpf the rescue does without its gate
        library()
    with open(f"{PROC}/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = {line.split(None, 5)[5].rstrip("\n") for line in file if " /" in line}
    shared = sorted(path for path in paths if ".so" in os.path.basename(path))
    loaders = [path for path in shared if os.path.basename(path).startswith("ld")]
    if not loaders:
        msg = "this Python has no libraries to copy: it is linked statically and shares nothing with a bomb"
        raise NotPossible(msg)
    return loaders[0], [path for path in shared if os.path.basename(path).startswith("lib")]


def _link_names(path: str, directory: str) -> None:
    """Links what those linked to a library call it, as ``libffi.so.8`` for ``libffi.so.8.1.2``."""
    folder, own = os.path.split(path)
    for name in os.listdir(folder):
        if name != own and name.startswith(own.partition(".so")[0]) and os.path.realpath(f"{folder}/{name}") == path:
            os.symlink(own, f"{directory}/{name}.new")
            os.replace(f"{directory}/{name}.new", f"{directory}/{name}")


def _copy(path: str, directory: str, name: str) -> prepared.Original:
    """Copies a file, whole or not at all: one that runs from there goes on with the old one."""
    as_it_is = prepared.original(name, path)
    target = f"{directory}/{name}"
    shutil.copyfile(path, f"{target}.new")
    os.chmod(f"{target}.new", 0o755)  # noqa: S103  (as programs and libraries are)
    os.replace(f"{target}.new", target)
    return as_it_is


def _runs(words: list[str]) -> bool:
    """Whether this Python comes up with the copies and finds the package."""
    command = [*words, "-P", "-m", "pidwarden", "--version"]
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    try:
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=silent)
    except OSError:
        return False
    ended = os.pidfd_open(pid)
    if not select.select([ended], [], [], _SECONDS)[0]:
        os.kill(pid, signal.SIGKILL)  # it is our child, not reaped yet
    os.close(ended)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

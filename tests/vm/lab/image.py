"""The initramfs: this tree, the interpreter in use, the programs that tests run, and nothing else."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

from lab.cpio import Archive
from lab.errors import LabError
from lab.kernels import ROOT, cache

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

HOME = "/pidwarden"  # where the tree is in the guest
_VENV = "/venv"
_NEEDED = ("pytest", "pytest-timeout", "hypothesis", "msgspec", "psutil")
# dash is the guest's sh, as on Debian. What is not on this machine is left out; a test that misses it says so.
_PROGRAMS = """
    bash dash true false sleep cat echo ls mkdir mkfifo rm rmdir cp mv ln chmod chown head tail wc tr seq sort uniq cut
    tee touch env id stty mktemp dd date timeout nice nohup stat readlink printf test uname sync yes xargs find grep sed
    setpriv setsid taskset ps pgrep kill free uptime mount umount unshare nsenter dmesg script su strace ip
""".split()  # noqa: SIM905  (a list that people read and add to)
_STDLIB_SKIP = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py"}
_STDLIB_SKIP |= {"lib2to3", "ensurepip", "pydoc_data"}
_SO_SKIP = re.compile(
    r"^(_tkinter|_test|_ctypes_test|xxlimited|_ssl|_hashlib|_sqlite3|_curses|_dbm|_gdbm|readline|nis)"
)
_TREE = ("src", "tests", "bpf", "bench", "tools", "pyproject.toml")
_SKIP = frozenset({"lab", ".hypothesis", ".pytest_cache"})
# Where the programs of tests/vm/guest go. A copy each, as a spawner is recognised by its inode.
_GUEST = {"init": ("init",), "bystander": ("usr/sbin/sshd", "usr/bin/login")}
_PASSWD = """root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
warden:x:1000:1000:an ordinary user:/home/warden:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
# What every guard there reads that is given no other: an emulated processor takes longer until 400 tasks have died.
_CONFIG = b"kill_timeout = 30\n"
_GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwarden:x:1000:\nnogroup:x:65534:\n"


def build() -> Path:
    """Makes the image anew, which takes about a second, and gives its path.

    Raises:
        LabError: something that goes into it cannot be built.
    """
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "initramfs"
    fresh = folder / f"initramfs.{os.getpid()}"
    built = _compiled(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(fresh.unlink, missing_ok=True)
        archive = Archive(stack.enter_context(open(fresh, "wb")))
        _skeleton(archive)
        _interpreter(archive)
        _packages(archive)
        _programs(archive)
        for name, places in _GUEST.items():
            for place in places:
                archive.file(place, built[name])
        for name in _TREE:
            where = ROOT / name
            if where.is_dir():
                archive.tree(f"{HOME}/{name}", str(where), _SKIP)
            else:
                archive.file(f"{HOME}/{name}", where)
        for name in sorted(set(built) - set(_GUEST)):
            archive.file(f"{HOME}/props/{name}", built[name])
        archive.end()
        fresh.rename(target)
    return target


def job(text: bytes) -> bytes:
    """An archive with the one file that says what this boot is for; the kernel unpacks it after the image."""
    import io  # noqa: PLC0415

    out = io.BytesIO()
    archive = Archive(out)
    archive.data(f"{HOME}/job.json", text)
    archive.end()
    return out.getvalue()


def _skeleton(archive: Archive) -> None:
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "sys", "dev", "run", "root", "home/warden"):
        archive.folder(folder)
    archive.folder("tmp", 0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        archive.link(name, f"usr/{name}")
    archive.device("dev/console", 5, 1)
    archive.data("etc/passwd", _PASSWD.encode())
    archive.data("etc/group", _GROUP.encode())
    archive.data("etc/pidwarden.toml", _CONFIG)
    archive.data("etc/hosts", b"127.0.0.1 localhost\n")
    archive.data("etc/nsswitch.conf", b"passwd: files\ngroup: files\n")


def _interpreter(archive: Archive) -> None:
    """The interpreter as /usr/bin/pythonX.Y, and a virtual environment over it as on the host."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    base = os.path.realpath(sys.executable)
    _binary(archive, f"usr/bin/python{version}", base)
    archive.link("usr/bin/python3", f"python{version}")
    stdlib = sysconfig.get_path("stdlib", vars={"base": sys.base_prefix})
    platlib = sys.platlibdir
    for where, folders, files in os.walk(stdlib):
        folders[:] = sorted(f for f in folders if f not in _STDLIB_SKIP and not f.startswith("config-"))
        below = f"usr/{platlib}/python{version}/{os.path.relpath(where, stdlib)}"
        for name in sorted(files):
            if name in _STDLIB_SKIP or name.endswith((".opt-1.pyc", ".opt-2.pyc", ".a")) or _SO_SKIP.match(name):
                continue
            path = os.path.normpath(f"{below}/{name}")
            (_binary if ".so" in name else Archive.file)(archive, path, f"{where}/{name}")
    archive.data(f"{_VENV}/pyvenv.cfg", f"home = /usr/bin\nversion = {version}\n".encode())
    for name in ("python", "python3"):
        archive.link(f"{_VENV}/bin/{name}", f"/usr/bin/python{version}")
    site = f"{_VENV}/lib/python{version}/site-packages"
    archive.data(f"{site}/pidwarden.pth", f"{HOME}/src\n".encode())
    entry = f"#!{_VENV}/bin/python\nimport sys\nfrom pidwarden.__main__ import main\nsys.exit(main())\n"
    archive.data(f"{_VENV}/bin/pidwarden", entry.encode(), 0o755)


def _packages(archive: Archive) -> None:
    site = f"{_VENV}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for distribution in _closure(_NEEDED):
        for file in distribution.files or ():
            if ".." in file.parts or file.suffix == ".pyi" or "tests" in file.parts:
                continue
            source = str(distribution.locate_file(file))
            if os.path.exists(source):
                (_binary if ".so" in file.name else Archive.file)(archive, f"{site}/{file}", source)


def _closure(names: Iterable[str]) -> Iterator[importlib.metadata.Distribution]:
    """The distributions of these names and what they require here."""
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as why:
            if name in _NEEDED:
                msg = f"{name} is not installed in {sys.prefix}; type `make setup`"
                raise LabError(msg) from why
            continue  # wanted by an extra or another platform only
        yield distribution
        plain = (r for r in distribution.requires or () if ";" not in r)
        waiting += [re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in plain]


def _programs(archive: Archive) -> None:
    for name in _PROGRAMS:
        if found := shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin"):
            _binary(archive, f"usr/bin/{name}", found)
    archive.link("usr/bin/sh", "dash")
    for name in ("libbpf.so.1", "libgcc_s.so.1"):
        _library(archive, name)


def _library(archive: Archive, name: str) -> None:
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"^\s*{re.escape(name)} .*x86-64.*=> (\S+)", listed, re.MULTILINE)
    if not found:
        msg = f"{name} is not installed; type `make setup`"
        raise LabError(msg)
    _binary(archive, _usr(found[1]), found[1])


def _usr(path: str) -> str:
    """Where a library goes: /lib is a link to /usr/lib in the guest."""
    return re.sub(r"^/(lib(?:32|64)?)/", r"/usr/\1/", path)


def _binary(archive: Archive, path: str, source: str) -> None:
    """A program or a library, and the libraries it needs, each at its path."""
    archive.file(path, source)
    said = subprocess.run(["ldd", source], capture_output=True, text=True, check=False).stdout
    for line in said.splitlines():
        if found := re.search(r"(?:=> )?(/\S+) \(0x", line):
            archive.file(_usr(found[1]), found[1])


def _compiled(folder: Path) -> dict[str, Path]:
    """What is compiled here, as the guest has no compiler: its init, the tests' props, and the BPF object."""
    sources = {name: ROOT / f"tests/vm/guest/{name}.c" for name in _GUEST}
    sources |= {p.stem: p for p in sorted((ROOT / "tests/props").glob("*.c"))}
    (folder / "bin").mkdir(exist_ok=True)
    built: dict[str, Path] = {}
    for name, source in sources.items():
        target = built[name] = folder / "bin" / name
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            _run("gcc", "-O2", "-Wall", "-pthread", "-static", "-o", str(target), str(source))
    _run("make", "-s", "-C", str(ROOT), "build")
    return built


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"`{' '.join(command)}` failed:\n{done.stderr}{done.stdout}"
        raise LabError(msg)

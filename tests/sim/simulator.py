"""The kernel side without a kernel: bpf/ compiled as an ordinary library, and a machine small enough to hold in hand.

Tasks are addresses of ``struct task_struct``. Layouts are those of ``pidwarden.kernel.abi``, as everywhere in Python.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from pidwarden.kernel import abi
from pidwarden.model.key import ProcessKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from struct import Struct

HERE = Path(__file__).parent
BPF = Path(os.environ.get("PIDWARDEN_SIM_BPF", HERE.parents[1] / "bpf"))  # another folder: to test the tests
_BUILT = Path(tempfile.gettempdir()) / f"pidwarden-sim-{os.getuid()}"
_FLAGS = ["-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-Wall", "-Wno-unknown-pragmas", "-Werror", "-Wl,-Bsymbolic"]
_SANITIZE = ["-fsanitize=undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=undefined"]
_INCLUDE = re.compile(r'^#include "(.+)"', re.MULTILINE)
_MAP = re.compile(r"struct \{([^}]*)\} (\w+) SEC\(\"\.maps\"\)")
THREAD, SIBLING, KTHREAD, SILENT = 1, 2, 4, 8  # enum sim_fork_flag
GATES = {"fork": 0, "vfork": 1, "clone": 2, "clone3": 3, "every": 4, "x32": 4, "lsm": 5, "fmod_ret": 6}
HOOKS = ("lsm", "fmod_ret")
FORK_I386, FORK_X32 = 2, 0x40000000 | 57
ROOT, INNER, INMOST, OTHER = range(4)  # cgroups of a hierarchy: INMOST is in INNER
CGROUP_IDS = (1, 11, 12, 13)
V1_HIERARCHY = 7
_MOST = 4096


def build(bpf: Path = BPF) -> str:
    """The library made of the sources in `bpf`, compiled if those or the shims are new."""
    sources = [*sorted(bpf.iterdir()), *sorted(HERE.rglob("*.[ch]"))]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = _BUILT / f"sim-{digest}.so"
    if not target.exists():
        _BUILT.mkdir(exist_ok=True)
        headers = sorted(_INCLUDE.findall((bpf / "pidwarden.bpf.c").read_text()))
        defined = [found for name in headers for found in _MAP.findall((bpf / name).read_text())]
        maps = " ".join(f"SIM_{'MAP' if '__type(key' in body else 'RING'}({name})" for body, name in defined)
        fresh = target.with_suffix(f".{os.getpid()}")
        files = [str(HERE / "kernel.c"), str(HERE / "helpers.c")]
        folders = [f"-I{HERE / 'include'}", f"-I{bpf}"]
        command = ["gcc", *_FLAGS, *_SANITIZE, *folders, f"-DSIM_MAPS={maps}", "-o", str(fresh), *files]
        subprocess.run(command, check=True)
        fresh.rename(target)
    return str(target)


@functools.cache
def library() -> ctypes.CDLL:
    lib = ctypes.CDLL(build())
    task, u64, u32, flag, text = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_bool, ctypes.c_char_p
    number = ctypes.c_int
    for name, result, *arguments in (
        ("boot", task, u32),
        ("fork", task, task, number, u32),
        ("exec", None, task, text, u64, u32, u32, flag),
        ("exit", None, task, number, flag, flag),
        ("reap", None, task),
        ("free", None, task, flag),
        ("reparent", None, task, task),
        ("session", None, task, number, flag),
        ("compat", None, task, flag),
        ("setuid", None, task, u32),
        ("seteuid", None, task, u32),
        ("rename", None, task, text),
        ("cgroup", None, task, number, number),
        ("user_namespace", None, task, u32),
        ("answer", number),
        ("fail", None, task, number),
        ("gate", u64, task, number, u64),
        ("seed", number, task),
        ("control", number, u64, u64, u64, u64, u64),
        ("ask", number, u64, u64, u64, u64),
        ("sweep", number, u64, u64),
        ("set_now", None, u64),
        ("resize", number, text, u32),
        ("count", number, text),
        ("size", u32, text, number),
        ("find", task, text, text),
        ("put", number, text, text, text),
        ("dump", number, text, ctypes.c_void_p),
        ("ring_take", number, text, ctypes.c_void_p),
    ):
        function = getattr(lib, f"sim_{name}")
        function.restype, function.argtypes = result, arguments
    return lib


@functools.cache
def _keys(fields: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Fields that are a struct pw_key: its name, and those of its two numbers."""
    names = [field.removesuffix("_tgid") for field in fields if field.endswith("_tgid")]
    return [(name, f"{name}_tgid", f"{name}_start_ns") for name in names]


def _values(layout: Struct, fields: tuple[str, ...], data: bytes) -> SimpleNamespace:
    """The struct's fields by name; a start time and a tgid make one ProcessKey as well."""
    found = dict(zip(fields, layout.unpack_from(data), strict=False))
    for name, tgid, start_ns in _keys(fields):
        found[name] = ProcessKey(found[tgid], found[start_ns])
    return SimpleNamespace(**found)


class Simulator:
    """One machine at a time: a new one begins with nothing but task 0, whose address is `init`."""

    def __init__(self, *, seed: int = 1, now: int = 10**12, sizes: dict[str, int] | None = None, **config: int) -> None:
        self._lib = library()
        full = {"tasks": _MOST, "procs": _MOST, "groups": _MOST, "dump": _MOST, "events": 64 * 1024}
        for name, size in {**full, **(sizes or {})}.items():
            if self._lib.sim_resize(name.encode(), size):
                raise KeyError(name)
        self.init: int = self._lib.sim_boot(seed)
        self._buffer = ctypes.create_string_buffer(_MOST * 512)
        self._now = now
        self.now = now
        self.configure(**config)

    # -- the machine -----------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, ns: int) -> None:
        self._now = ns
        self._lib.sim_set_now(ns)

    def configure(self, **config: int | tuple[int, ...]) -> None:
        """Sets fields of struct pw_config; those not named are 0, and limits out of reach."""
        far = {"hold_at": 1 << 30, "family_hold_at": 1 << 30, "depth_limit": 1 << 30, "branch_age_ns": 1 << 60}
        values = {**dict.fromkeys(abi.CONFIG_FIELDS, 0), **far, **config}
        assert values.keys() <= set(abi.CONFIG_FIELDS), config
        arrays = {
            "only": abi.MAX_ONLY,
            "uids": abi.MAX_UIDS,
            "cgroups": abi.MAX_CGROUPS,
            "hierarchies": abi.MAX_CGROUPS,
        }
        values |= {"n_uids": len(values["uids"] or ()), "n_cgroups": len(values["cgroups"] or ())}  # type: ignore[arg-type]
        for name, size in arrays.items():
            values[name] = [*(values[name] or ()), *[0] * size][:size]  # type: ignore[misc, assignment]
        flat = [number for value in values.values() for number in (value if isinstance(value, list) else [value])]
        self._lib.sim_put(b"config", bytes(4), abi.CONFIG.pack(*flat))

    def executable(self, ino: int, flags: int) -> None:
        self._lib.sim_put(b"exes", abi.EXE.pack(ino, 1), flags.to_bytes(4, "little"))

    def fork(self, creator: int, pid: int, how: int = 0) -> int:
        """A new task with that pid; never 0."""
        task: int | None = self._lib.sim_fork(creator, pid, how)
        assert task, "the simulator has no more room for tasks"
        return task

    def exec(self, task: int, comm: bytes, ino: int = 1, uid: int = 0, *, silent: bool = False) -> None:
        self._lib.sim_exec(task, comm, ino, 1, uid, silent)

    def exit(self, task: int, code: int = 0, *, group_dead: bool = True, silent: bool = False) -> None:
        self._lib.sim_exit(task, code, group_dead, silent)

    def reap(self, task: int) -> None:
        self._lib.sim_reap(task)

    def free(self, task: int, *, silent: bool = False) -> None:
        self._lib.sim_free(task, silent)

    def reparent(self, task: int, to: int) -> None:
        self._lib.sim_reparent(task, to)

    def session(self, task: int, *, leader: bool, tty: bool) -> None:
        self._lib.sim_session(task, leader, tty)

    def compat(self, task: int, *, on: bool) -> None:
        self._lib.sim_compat(task, on)

    def setuid(self, task: int, uid: int) -> None:
        self._lib.sim_setuid(task, uid)

    def seteuid(self, task: int, uid: int) -> None:
        self._lib.sim_seteuid(task, uid)

    def rename(self, task: int, comm: bytes) -> None:
        self._lib.sim_rename(task, comm)

    def gate(self, task: int, which: str = "clone") -> int:
        """Enters a fork call; the number of the signal that was sent, 0 if the call may go on."""
        found: int = self._lib.sim_gate(task, GATES[which], FORK_X32 if which == "x32" else FORK_I386)
        assert found & 0xFFFFFFFF <= 1, "more than one signal"
        return found >> 32

    def answer(self) -> int:
        """What the hook that was entered last has returned."""
        found: int = self._lib.sim_answer()
        return found

    def fail(self, task: int, which: str) -> None:
        """The fork that went through that hook comes to nothing."""
        self._lib.sim_fail(task, GATES[which])

    def user_namespace(self, task: int, owner: int) -> None:
        """Puts a task into a user namespace that a user has made; its children inherit it."""
        self._lib.sim_user_namespace(task, owner)

    def cgroup(self, task: int, number: int, *, v1: bool = False) -> None:
        """Moves a task to ROOT, INNER, INMOST or OTHER."""
        self._lib.sim_cgroup(task, int(v1), number)

    def seed(self, by: int) -> int:
        """Runs the walk; how many tasks it enrolled."""
        before = self.counters().seeded
        self._lib.sim_seed(by)
        return int(self.counters().seeded - before)

    def control(self, op: int, *arguments: int) -> int:
        found: int = self._lib.sim_control(op, *[*arguments, 0, 0, 0, 0][:4])
        return found

    def sweep(self, cutoff: int, early: int = 0) -> int:
        """Forgets who exited before `cutoff`, and in families with many records before `early`; how many went."""
        found: int = self._lib.sim_sweep(cutoff, early)
        return found

    def settle(self) -> None:
        self.control(abi.OP_SETTLE)

    # -- what the maps hold ----------------------------------------------------------------------------------------

    def count(self, name: str) -> int:
        found: int = self._lib.sim_count(name.encode())
        return found

    def sizes(self, name: str) -> tuple[int, int]:
        """Of a key and a value, in bytes, as the compiler of this machine laid them out."""
        return self._lib.sim_size(name.encode(), 0), self._lib.sim_size(name.encode(), 1)

    def _elements(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        n = self._lib.sim_dump(name.encode(), self._buffer)
        key, value = self.sizes(name)
        data = ctypes.string_at(self._buffer, n * (key + value))
        for at in range(0, len(data), key + value):
            yield data[at : at + key], data[at + key : at + key + value]

    def tasks(self) -> dict[int, SimpleNamespace]:
        return {
            int.from_bytes(key, "little"): _values(abi.TASK, abi.TASK_FIELDS, value)
            for key, value in self._elements("tasks")
        }

    def procs(self) -> dict[ProcessKey, SimpleNamespace]:
        found = {}
        for key, value in self._elements("procs"):
            start, tgid, _ = abi.KEY.unpack(key)
            record = _values(abi.PROC, abi.PROC_FIELDS, value)
            record.comm = record.comm.split(b"\0", 1)[0]
            found[ProcessKey(tgid, start)] = record
        return found

    def groups(self) -> dict[int, SimpleNamespace]:
        return {
            int.from_bytes(key, "little"): _values(abi.GROUP, abi.GROUP_FIELDS, value)
            for key, value in self._elements("groups")
        }

    def counters(self) -> SimpleNamespace:
        at = self._lib.sim_find(b"state", bytes(4))
        return _values(abi.STATE, abi.STATE_FIELDS, ctypes.string_at(at, abi.STATE.size))

    def events(self) -> list[SimpleNamespace]:
        """Everything that waits in the ring buffer, taken out."""
        found = []
        while size := self._lib.sim_ring_take(b"events", self._buffer):
            assert size > 0, "a record of the ring buffer was reserved and never submitted"
            data = ctypes.string_at(self._buffer, size)[8:]
            found.append(_values(abi.EVENT, abi.EVENT_FIELDS, data))
        return found

    def asked(self, what: int, *arguments: int) -> bytes:
        """What `ask` copied into `dump`."""
        n = self._lib.sim_ask(what, *[*arguments, 0, 0, 0][:3])
        at = self._lib.sim_find(b"dump", bytes(4))
        return ctypes.string_at(at, n * abi.DUMP.size) if n else b""

"""Trying out what the kernel takes: a program that does nothing, loaded for a moment; and what securityfs says."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import struct
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.errors import NoPermission
from pidwarden.kernel import libbpf, procfs, tracefs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# enum bpf_prog_type and bpf_attach_type (include/uapi/linux/bpf.h); numbers of a uapi header never change.
TRACEPOINT, RAW_TRACEPOINT, TRACING, LSM = 5, 17, 26, 29
_MODIFY_RETURN, _LSM_MAC, _TRACE_ITER = 26, 27, 28
_NOTHING = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = 0; exit


class Absent(Exception):  # noqa: N818  (a finding, not a failure)
    """What was looked for is not there, with the reason in words."""


class _LoadOptions(ctypes.Structure):
    """``struct bpf_prog_load_opts`` up to the last field that is set (libbpf's bpf.h)."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_uint32),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
    ]


def in_words(code: int) -> str:
    """An errno as the kernel's words and name: ``Operation not permitted (EPERM)``."""
    return f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"


@functools.cache
def library() -> ctypes.CDLL:
    """libbpf, with what is needed to load a program without an object."""
    lib = libbpf.library()
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    lib.bpf_prog_load.argtypes = (ctypes.c_int, text, text, text, ctypes.c_size_t, pointer)
    lib.bpf_prog_load.restype = ctypes.c_int
    lib.libbpf_find_vmlinux_btf_id.argtypes = (text, ctypes.c_int)
    lib.libbpf_find_vmlinux_btf_id.restype = ctypes.c_int
    return lib


@contextlib.contextmanager
def program(kind: int, what: str, target: str = "", attach_type: int = 0) -> Iterator[int]:
    """A program that does nothing, loaded for a moment; OSError or Absent with the kernel's reason."""
    lib, target_id = library(), 0
    if target:
        target_id = lib.libbpf_find_vmlinux_btf_id(target.encode(), attach_type)
        if target_id < 0:
            raise Absent(f"the kernel's BTF has no {target}: {in_words(-target_id)}")
    options = _LoadOptions(
        sz=ctypes.sizeof(_LoadOptions), attempts=1, expected_attach_type=attach_type, attach_btf_id=target_id
    )
    fd: int = lib.bpf_prog_load(kind, b"pidwarden_probe", b"GPL", _NOTHING, len(_NOTHING) // 8, ctypes.byref(options))
    if fd in (-errno.EPERM, -errno.EACCES) and os.geteuid() != 0:
        raise NoPermission(in_words(-fd))
    if fd < 0:
        raise Absent(f"the kernel refuses {what}: {in_words(-fd)}")
    try:
        yield fd
    finally:
        os.close(fd)


def _loads(kind: int, what: str, target: str, attach_type: int) -> str:
    with program(kind, what, target, attach_type):
        return f"a program for {target} loads"


@contextlib.contextmanager
def detached(kind: str) -> Iterator[int]:
    """The root of a file system that is mounted nowhere; it goes at the end."""
    mount = tracefs.detached(kind)
    try:
        yield mount
    finally:
        os.close(mount)


def security(name: str) -> str:
    """A file of securityfs, also where that is not mounted."""
    with contextlib.ExitStack() as stack:
        root = next((where for _device, where, kind, *_ in procfs.mounts() if kind == "securityfs"), None)
        top = None if root else stack.enter_context(detached("securityfs"))
        fd = os.open(f"{root}/{name}" if root else name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=top)
        stack.callback(os.close, fd)
        return os.read(fd, 4096).decode("ascii", "replace").strip()


def _lsm_list() -> str:
    names = security("lsm")
    if "bpf" not in names.split(","):
        raise Absent(f"bpf is not among the active ones ({names})")
    return names


class Look(NamedTuple):
    """Something to try: its name, how (Absent, OSError: not here), and what would bring it about."""

    name: str
    try_it: Callable[[], str]
    remedy: str


_TRACES = "a kernel that lets root load BPF tracing programs"
LSM_LIST = Look("BPF among the LSMs", _lsm_list, "boot with bpf added to the list: `lsm=…,bpf` on the command line")
LSM_PROGRAMS = Look(
    "LSM programs",
    partial(_loads, LSM, "LSM programs", "task_alloc", _LSM_MAC),
    "a kernel with CONFIG_BPF_LSM that lets root load them",
)
FMOD_RET_PROGRAMS = Look(
    "fmod_ret programs",
    partial(_loads, TRACING, "programs that modify a return value", "security_task_alloc", _MODIFY_RETURN),
    _TRACES,
)
ITERATOR_PROGRAMS = Look("task iterator", partial(_loads, TRACING, "iterator programs", "task", _TRACE_ITER), _TRACES)

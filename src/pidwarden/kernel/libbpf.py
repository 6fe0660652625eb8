"""libbpf through ctypes: open, load, attach, and the map calls. Nothing here knows what pidwarden's programs do.

Names and semantics are libbpf's own (``/usr/include/bpf/libbpf.h`` and ``bpf.h``, libbpf 1.0 or newer). Nothing forks:
``ctypes.CDLL`` is given the exact name, as ``find_library`` would run a program.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from itertools import chain
from typing import TYPE_CHECKING, Any

from pidwarden.errors import NotPossible, bpf_error

if TYPE_CHECKING:
    from collections.abc import Callable

_SONAME = "libbpf.so.1"
_P, _I, _U32, _U64, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_char_p
SAMPLE = ctypes.CFUNCTYPE(_I, _P, _P, ctypes.c_size_t)

# name: (result, arguments). Only what is called below.
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (_P, (_P,)),
    "bpf_object__open_file": (_P, (_S, _P)),
    "bpf_object__load": (_I, (_P,)),
    "bpf_object__close": (None, (_P,)),
    "bpf_object__find_program_by_name": (_P, (_P, _S)),
    "bpf_object__find_map_by_name": (_P, (_P, _S)),
    "bpf_program__fd": (_I, (_P,)),
    "bpf_program__set_autoload": (_I, (_P, ctypes.c_bool)),
    "bpf_program__attach": (_P, (_P,)),
    "bpf_program__attach_raw_tracepoint": (_P, (_P, _S)),
    "bpf_program__attach_perf_event": (_P, (_P, _I)),
    "bpf_link__pin": (_I, (_P, _S)),
    "bpf_link__destroy": (_I, (_P,)),
    "bpf_map__fd": (_I, (_P,)),
    "bpf_map__key_size": (_U32, (_P,)),
    "bpf_map__value_size": (_U32, (_P,)),
    "bpf_map__max_entries": (_U32, (_P,)),
    "bpf_map__initial_value": (_P, (_P, _P)),
    "bpf_map__set_max_entries": (_I, (_P, _U32)),
    "bpf_map_create": (_I, (_U32, _S, _U32, _U32, _U32, _P)),
    "bpf_obj_pin": (_I, (_I, _S)),
    "bpf_obj_get": (_I, (_S,)),
    "bpf_raw_tracepoint_open": (_I, (_S, _I)),
    "bpf_map_update_elem": (_I, (_I, _P, _P, _U64)),
    "bpf_map_update_batch": (_I, (_I, _P, _P, _P, _P)),
    "bpf_map_delete_elem": (_I, (_I, _P)),
    "bpf_map_get_next_key": (_I, (_I, _P, _P)),
    "bpf_map_lookup_elem": (_I, (_I, _P, _P)),
    "bpf_obj_get_info_by_fd": (_I, (_I, _P, _P)),
    "btf__load_from_kernel_by_id": (_P, (_U32,)),
    "bpf_prog_test_run_opts": (_I, (_I, _P)),
    "ring_buffer__new": (_P, (_I, SAMPLE, _P, _P)),
    "ring_buffer__epoll_fd": (_I, (_P,)),
    "ring_buffer__consume": (_I, (_P,)),
    "ring_buffer__free": (None, (_P,)),
    "btf__parse_elf": (_P, (_S, _P)),
    "btf__raw_data": (_P, (_P, _P)),
    "btf__free": (None, (_P,)),
    "libbpf_find_vmlinux_btf_id": (_I, (_S, _I)),
    "libbpf_version_string": (_S, ()),
}
_TRACE_FENTRY = 24  # enum bpf_attach_type (include/uapi/linux/bpf.h): asks for a function of that name


class _TestRun(ctypes.Structure):
    """``struct bpf_test_run_opts``, up to the fields that raw tracepoints use."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("data_in", _P),
        ("data_out", _P),
        ("data_size_in", _U32),
        ("data_size_out", _U32),
        ("ctx_in", _P),
        ("ctx_out", _P),
        ("ctx_size_in", _U32),
        ("ctx_size_out", _U32),
        ("retval", _U32),
        ("repeat", _I),
        ("duration", _U32),
        ("flags", _U32),
        ("cpu", _U32),
        ("batch_size", _U32),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded shared library.

    Raises:
        NotPossible: libbpf 1.x is not installed.
    """
    try:
        lib = ctypes.CDLL(_SONAME, use_errno=True)
    except OSError as why:
        msg = f"cannot load {_SONAME} ({why}); type `apt-get install libbpf1`, or your distribution's libbpf 1.x"
        raise NotPossible(msg) from why
    for name, (result, arguments) in _PROTOTYPES.items():
        try:
            function = getattr(lib, name)
        except AttributeError as why:
            msg = f"{_SONAME} has no {name}: libbpf 1.0 or newer is needed"
            raise NotPossible(msg) from why
        function.restype, function.argtypes = result, arguments
    if not os.environ.get("PIDWARDEN_DEBUG"):
        lib.libbpf_set_print(None)
    return lib


def version() -> str:
    """The version of the loaded libbpf, as ``v1.1``."""
    text: bytes = library().libbpf_version_string()
    return text.decode()


def _check(result: int, what: str) -> int:
    if result < 0:
        raise bpf_error(what, -result)
    return result


def checked(result: int | None, what: str) -> int:
    """A pointer that is not NULL.

    Raises:
        PidwardenError: it is, for the reason in errno.
    """
    if not result:
        raise bpf_error(what, ctypes.get_errno())
    return result


@functools.cache
def has_kernel_function(name: str) -> bool:
    """Whether the running kernel has a function of that name, as its BTF says."""
    found: int = library().libbpf_find_vmlinux_btf_id(name.encode(), _TRACE_FENTRY)
    return found > 0


def raw_btf(path: str) -> bytes:
    """The .BTF section of an ELF file."""
    lib = library()
    return _btf_bytes(checked(lib.btf__parse_elf(os.fsencode(path), None), f"reading the BTF of {path}"))


def _btf_bytes(btf: int) -> bytes:
    size = _U32()
    data = ctypes.string_at(library().btf__raw_data(btf, ctypes.byref(size)), size.value)
    library().btf__free(btf)
    return data


class _MapInfo(ctypes.Structure):
    """``struct bpf_map_info`` (include/uapi/linux/bpf.h) up to the BTF."""

    _fields_ = [
        ("type", _U32),
        ("id", _U32),
        ("key_size", _U32),
        ("value_size", _U32),
        ("max_entries", _U32),
        ("map_flags", _U32),
        ("name", ctypes.c_char * 16),
        ("ifindex", _U32),
        ("btf_vmlinux_value_type_id", _U32),
        ("netns_dev", _U64),
        ("netns_ino", _U64),
        ("btf_id", _U32),
        ("btf_key_type_id", _U32),
        ("btf_value_type_id", _U32),
        ("pad", _U32),
    ]


def _map_info(fd: int) -> _MapInfo:
    info, size = _MapInfo(), _U32(ctypes.sizeof(_MapInfo))
    _check(library().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)), "asking about a map")
    return info


def map_btf(fd: int) -> bytes:
    """The BTF that a map was made with."""
    lib = library()
    return _btf_bytes(checked(lib.btf__load_from_kernel_by_id(_map_info(fd).btf_id), "reading the BTF of a map"))


def elements(fd: int, value_size: int) -> list[tuple[bytes, bytes]]:
    """Every element of a map, as (key, value). It keeps BPF programs from running meanwhile: for a map given up only.

    Raises:
        ValueError: its values have another size.
    """
    info = _map_info(fd)
    if info.value_size != value_size:
        msg = f"values of {info.value_size} bytes, not {value_size}"
        raise ValueError(msg)
    key, value = ctypes.create_string_buffer(info.key_size), ctypes.create_string_buffer(value_size)
    found: list[tuple[bytes, bytes]] = []
    last = None
    while len(found) < info.max_entries and not library().bpf_map_get_next_key(fd, last, key):
        if not library().bpf_map_lookup_elem(fd, key, value):
            found.append((key.raw, value.raw))
        last = key
    return found


def keys(fd: int) -> list[bytes]:
    """Every key of a map; of one that changes meanwhile some may be missing or come twice."""
    info = _map_info(fd)
    key, last = ctypes.create_string_buffer(info.key_size), None
    found: list[bytes] = []
    while len(found) < info.max_entries and not library().bpf_map_get_next_key(fd, last, key):
        found.append(key.raw)
        last = key
    return found


def clear(fd: int) -> None:
    """Removes every element of a hash map."""
    key = ctypes.create_string_buffer(_map_info(fd).key_size)
    while not library().bpf_map_get_next_key(fd, None, key):
        library().bpf_map_delete_elem(fd, key)


_RINGBUF = 27  # enum bpf_map_type (include/uapi/linux/bpf.h)


def new_ring(name: str, size: int) -> int:
    """The descriptor of a new ring buffer of `size` bytes, a power of two and at least a page."""
    return _check(library().bpf_map_create(_RINGBUF, name.encode(), 0, 0, size, None), f"making the ring buffer {name}")


class Map:
    """One BPF map by file descriptor; keys and values are bytes."""

    def __init__(self, name: str, fd: int, key_size: int, value_size: int, max_entries: int) -> None:
        self.name, self.fd = name, fd
        self.key_size, self.value_size, self.max_entries = key_size, value_size, max_entries

    def set(self, key: bytes, value: bytes) -> None:
        """Sets `key` to `value`."""
        _check(library().bpf_map_update_elem(self.fd, key, value, 0), f"updating map {self.name}")

    def set_all(self, keys: bytes, values: bytes) -> None:
        """Sets many, keys and values one behind the other; by a single system call where the kernel can (5.6)."""
        count, size, width = _U32(len(keys) // self.key_size), self.key_size, self.value_size
        if library().bpf_map_update_batch(self.fd, keys, values, ctypes.byref(count), None):
            for i in range(len(keys) // size):  # those it set before it failed as well: that changes nothing
                self.set(keys[i * size : (i + 1) * size], values[i * width : (i + 1) * width])

    def get(self, key: bytes, processors: int = 0) -> bytes | None:
        """The value of `key`, None if it is not there. Of a per-processor map: one for each of `processors`."""
        value = ctypes.create_string_buffer((self.value_size + 7 & ~7) * processors or self.value_size)
        return None if library().bpf_map_lookup_elem(self.fd, key, value) else value.raw

    def delete(self, key: bytes) -> None:
        """Removes `key`; no error if it is not there."""
        library().bpf_map_delete_elem(self.fd, key)

    def view(self) -> mmap.mmap:
        """The memory of a BPF_F_MMAPABLE array, read-only; elements lie `value_size`, rounded up to 8, apart."""
        size = (self.value_size + 7 & ~7) * self.max_entries
        return mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ)


def pin(fd: int, path: str) -> None:
    """Gives a map or a program a second reference, as a file of a bpf file system."""
    _check(library().bpf_obj_pin(fd, os.fsencode(path)), f"pinning {path}")


def max_entries(fd: int) -> int:
    """How many elements a map can have, as its fdinfo says."""
    return _fdinfo(fd, "max_entries:")


def memory_of(fd: int) -> int:
    """Bytes of kernel memory that a map takes, as its fdinfo says."""
    return _fdinfo(fd, "memlock:")


def left_out(fd: int) -> int:
    """How often a program was not run because it, or a map operation, was under way on that processor; since 5.12."""
    return _fdinfo(fd, "recursion_misses:", 0)


def _fdinfo(fd: int, name: str, *without: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next(chain((int(line.split()[1]) for line in file if line.startswith(name)), without))


def open_pin(path: str) -> int:
    """A descriptor of what is pinned at `path`."""
    return _check(library().bpf_obj_get(os.fsencode(path)), f"opening the pin {path}")


def runner(fd: int, name: str) -> Callable[..., int]:
    """Runs a raw-tracepoint or syscall program once: a function of up to five u64 that gives what it returned."""
    ctx = (_U64 * 5)()
    opts = _TestRun(sz=ctypes.sizeof(_TestRun), ctx_in=ctypes.addressof(ctx), ctx_size_in=ctypes.sizeof(ctx))
    call, where = library().bpf_prog_test_run_opts, ctypes.byref(opts)

    def run(*arguments: int) -> int:
        ctx[:] = [*arguments, *[0] * (5 - len(arguments))]
        _check(call(fd, where), f"running the BPF program {name}")
        return int(opts.retval)

    return run


def attach_raw(fd: int, tracepoint: str) -> int:
    """Attaches a raw-tracepoint program; the descriptor to close to detach it."""
    return _check(library().bpf_raw_tracepoint_open(tracepoint.encode(), fd), f"attaching to {tracepoint}")


class Link:
    """An attached program; it stays attached until :meth:`destroy` or, unpinned, until the process ends."""

    def __init__(self, pointer: int, name: str) -> None:
        self._pointer: int | None = pointer
        self.name = name

    def pin(self, path: str) -> None:
        """Makes the attachment outlive this process, as the file `path` of a bpf file system."""
        _check(library().bpf_link__pin(self._pointer, os.fsencode(path)), f"pinning {self.name} at {path}")

    def destroy(self) -> None:
        """Detaches, unless a pin still holds it. May be called twice."""
        if self._pointer:
            library().bpf_link__destroy(self._pointer)
            self._pointer = None


class Object:
    """A BPF object file: opened, adjusted, loaded, and then its programs and maps by name."""

    def __init__(self, path: str) -> None:
        self._lib = library()
        what = f"opening the BPF object {path}"
        self._pointer: int | None = checked(self._lib.bpf_object__open_file(os.fsencode(path), None), what)

    def _program(self, name: str) -> int:
        return checked(self._lib.bpf_object__find_program_by_name(self._pointer, name.encode()), f"program {name}")

    def _map(self, name: str) -> int:
        return checked(self._lib.bpf_object__find_map_by_name(self._pointer, name.encode()), f"map {name}")

    def resize(self, name: str, max_entries: int) -> None:
        """Sets how many elements a map can have; before :meth:`load`."""
        _check(self._lib.bpf_map__set_max_entries(self._map(name), max_entries), f"resizing map {name}")

    def set_constants(self, data: bytes) -> None:
        """Sets the first bytes of the constants (.rodata); before :meth:`load`."""
        at = self._lib.bpf_map__initial_value(self._map(".rodata"), ctypes.byref(ctypes.c_size_t()))
        ctypes.memmove(checked(at, "setting constants"), data, len(data))

    def leave_out(self, name: str) -> None:
        """Does not load a program; before :meth:`load`. What it is attached to need not be there."""
        _check(self._lib.bpf_program__set_autoload(self._program(name), False), f"leaving out program {name}")

    def load(self) -> None:
        """Creates the maps and has the kernel verify the programs."""
        _check(self._lib.bpf_object__load(self._pointer), "loading the BPF programs")

    def map(self, name: str) -> Map:
        """A map, once loaded."""
        lib, m = self._lib, self._map(name)
        sizes = lib.bpf_map__key_size(m), lib.bpf_map__value_size(m), lib.bpf_map__max_entries(m)
        return Map(name, lib.bpf_map__fd(m), *sizes)

    def attach(self, name: str) -> Link:
        """Attaches a program to what its section names."""
        return Link(checked(self._lib.bpf_program__attach(self._program(name)), f"attaching {name}"), name)

    def attach_raw(self, name: str, tracepoint: str) -> Link:
        """Attaches a program to a raw tracepoint."""
        pointer = self._lib.bpf_program__attach_raw_tracepoint(self._program(name), tracepoint.encode())
        return Link(checked(pointer, f"attaching to the raw tracepoint {tracepoint}"), name)

    def attach_perf(self, name: str, perf_fd: int) -> Link:
        """Attaches a program to an open perf event; the link then owns `perf_fd`."""
        pointer = self._lib.bpf_program__attach_perf_event(self._program(name), perf_fd)
        return Link(checked(pointer, f"attaching {name} to a perf event"), name)

    def program(self, name: str) -> int:
        """The descriptor of a program, once loaded."""
        fd: int = self._lib.bpf_program__fd(self._program(name))
        return fd

    def close(self) -> None:
        """Frees everything that is not attached or pinned. May be called twice."""
        if self._pointer:
            self._lib.bpf_object__close(self._pointer)
            self._pointer = None

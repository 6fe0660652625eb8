"""Who a thread in vfork(2) waits for: the child that has its memory until it calls exec, or ends."""

from __future__ import annotations

from pidwarden.kernel.procfs import PROC, read_bytes

CALLS = frozenset(("vfork", "clone", "clone3"))
_PF_FORKNOEXEC = 0x40  # include/linux/sched.h; field 9 of stat


def children(pid: int, tid: int, root: str = PROC) -> list[int]:
    """The children of this thread that may be it, most often one: they live, called no exec, and have its memory.

    Memory that is shared has one size; if no child's is the parent's, none is passed over for it.
    """
    found = _born(f"{root}/{pid}/task/{tid}/children")
    copies = [child for child in found if _is_copy(child, root)]
    memory = read_bytes(f"{root}/{pid}/statm")
    return [child for child in copies if read_bytes(f"{root}/{child}/statm") == memory] or copies


def _born(path: str) -> list[int]:
    try:
        with open(path, "rb") as file:  # in several reads: the kernel gives one page at a time
            return list(map(int, file.read().split()))
    except OSError:
        return []


def _is_copy(pid: int, root: str) -> bool:
    """Whether it lives and never called exec."""
    data = read_bytes(f"{root}/{pid}/stat") or b""
    fields = data[data.rfind(b")") + 2 :].split()
    return bool(data) and fields[0] not in b"ZX" and bool(int(fields[6]) & _PF_FORKNOEXEC)

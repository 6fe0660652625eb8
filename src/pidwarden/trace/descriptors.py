"""What descriptors lead to, behind their numbers, as ``strace -y`` writes it: ``read(3</etc/passwd>, …)``. Pure.

Names are known of those there at the beginning, and learnt when a file is opened by its whole path. When one is met
that is not known, it is asked for (of /proc, by whoever makes this). Calls that are chosen by their results tell too
little for that: then every name is asked for when it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pidwarden.model.text import escape
from pidwarden.trace.abi import CUT
from pidwarden.trace.call import Call, Unknown
from pidwarden.trace.decode import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pidwarden.trace.event import Event

_AT_FDCWD: Final = 0xFFFFFF9C
_FD: Final = 0xFFFFFFFF
_PROCESSES: Final = 4096  # whose descriptors are remembered


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MAKE: Final = _words(
    "open openat openat2 creat socket accept accept4 dup dup2 dup3 epoll_create epoll_create1 eventfd eventfd2 "
    "signalfd signalfd4 timerfd_create inotify_init inotify_init1 memfd_create pidfd_open pidfd_getfd userfaultfd "
    "perf_event_open fanotify_init open_tree fsopen fsmount fspick io_uring_setup open_by_handle_at mq_open "
    "landlock_create_ruleset"
)
_OPENS: Final = {"open": 0, "creat": 0, "openat": 1, "openat2": 1}  # which argument is the path
_END: Final = {"close": 0, "dup2": 1, "dup3": 1}  # which argument names the descriptor that is another one afterwards
_COPY: Final = _words("dup dup2 dup3")
_F_DUPFD: Final = (0, 1030)  # and F_DUPFD_CLOEXEC
_FORGET: Final = _words("close_range unshare")
_PAIR: Final = {"pipe": 0, "pipe2": 0, "socketpair": 3}  # which argument points to both
CHANGE: Final = _MAKE | _END.keys() | _FORGET | _PAIR.keys() | {"chdir", "fchdir", "chroot", "fcntl"}


class NamingDecoder(Decoder):
    """A decoder that names descriptors."""

    def __init__(self, *args: Any, look: Callable[[int, int | None], str], keep: bool, **more: Any) -> None:
        """`look` gives what a descriptor of a process leads to, None: its working directory; empty if it is not known.

        `keep`: all calls of :data:`CHANGE` are traced, so that names may be remembered.
        """
        super().__init__(*args, **more)
        self._look, self._keep = look, keep
        self._known: dict[int, dict[int | None, str]] = {}

    def arguments(self, enter: Event | None, done: Event | None) -> list[str]:
        """As text, descriptors with what they lead to."""
        event = done or enter
        assert event is not None
        shape, call, pid, found = self._shape(event.nr), Call(enter, done), event.tgid or event.tid, []
        try:
            for argument in shape.arguments:
                said = argument.text(call)
                if said is not None:
                    kind, value = argument.kind, event.args[argument.arg] & _FD
                    found.append(said + self._name(pid, kind, value) if kind in ("fd", "dirfd") else said)
        except Unknown:
            pass
        if done is not None and done.ret >= 0:
            self._changed(shape.name, pid, call, done)
        return found

    def result(self, event: Event) -> str:
        """What the call returned; if that is a descriptor, with its name."""
        said = super().result(event)
        if event.ret < 0 or self.name(event.nr) not in _MAKE:
            return said
        return said + self._name(event.tgid or event.tid, "fd", event.ret & _FD)

    def forked(self, parent: int, child: int) -> None:
        """A child has its parent's descriptors."""
        if parent in self._known:
            self._of(child).update(self._known[parent])

    def _of(self, pid: int) -> dict[int | None, str]:
        found = self._known.get(pid)
        if found is None:
            if len(self._known) >= _PROCESSES:
                del self._known[next(iter(self._known))]
            found = self._known[pid] = {}
        return found

    def _name(self, pid: int, kind: str, value: int) -> str:
        fd = None if kind == "dirfd" and value == _AT_FDCWD else value
        known = self._of(pid)
        name = known.get(fd, "") if self._keep else ""
        if not name:
            name = self._look(pid, fd) or known.get(fd, "")
            known[fd] = name
        shown = name.replace("<", "\\74").replace(">", "\\76")
        return f"<{shown}>" if shown else ""

    def learn(self, pid: int, names: Mapping[int | None, str]) -> None:
        """What those of a process lead to now; its working directory is that of None."""
        self._of(pid).update(names)

    def unseen(self, enter: Event | None, done: Event) -> None:
        """A call that is not shown, but may have changed what descriptors lead to."""
        if done.ret >= 0:
            self._changed(self.name(done.nr), done.tgid or done.tid, Call(enter, done), done)

    def _changed(self, name: str, pid: int, call: Call, done: Event) -> None:
        known = self._of(pid)
        if name in _FORGET:
            known.clear()
        elif name in _END:
            known.pop(done.args[_END[name]] & _FD, None)
        elif name in ("chdir", "fchdir", "chroot"):
            known[None] = _path(call, 0) if name == "chdir" else ""
        elif name in _PAIR and (both := call.told(_PAIR[name])) is not None:
            for at in (0, 4):
                known.pop(int.from_bytes(both.data[at : at + 4], "little"), None)
        if name in _COPY or (name == "fcntl" and done.args[1] in _F_DUPFD):
            known[done.ret & _FD] = known.get(done.args[0] & _FD, "")
        elif name in _MAKE:
            known[done.ret & _FD] = _path(call, _OPENS[name]) if name in _OPENS else ""


def _path(call: Call, arg: int) -> str:
    """A path that is given whole; else nothing is known."""
    piece = call.given(arg)
    whole = piece is not None and piece.data[:1] == b"/" and not piece.flags & CUT
    return escape(piece.data) if piece is not None and whole else ""

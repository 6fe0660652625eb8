"""What the machine tells of a process that lost its parent, beyond its `stat`. Decides nothing.

Only files of /proc that wait for nobody, and links, which are read and never followed: what is behind them may lie on a
server that does not answer.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pidwarden.kernel import cgroup, evidence, farend
from pidwarden.kernel.procfs import PROC, read_int
from pidwarden.model.container import container_of
from pidwarden.model.orphan import Login, Std, Traces, Unit, names_of

if TYPE_CHECKING:
    from pidwarden.kernel.evidence import Read
    from pidwarden.kernel.logind import Logind

_UNSET = 0xFFFFFFFF  # AUDIT_UID_UNSET, AUDIT_SID_UNSET (include/uapi/linux/audit.h)
_DELETED = " (deleted)"
_SIGHUP = 1
_PTS = "/dev/pts/"
_RIGHT = "it takes the right to trace it (ptrace(2)): root's, as a rule"


def login_uid(pid: int, root: str = PROC) -> int | None:
    """The user who logged in above this process, None if nobody did (pam_loginuid(8)). It stays for ever."""
    found = read_int(f"{root}/{pid}/loginuid")
    return None if found in (None, _UNSET) else found


def audit_session(pid: int, root: str = PROC) -> int | None:
    """The number of the login session, which logind uses as well; None outside of any."""
    found = read_int(f"{root}/{pid}/sessionid")
    return None if found in (None, _UNSET) else found


def traces(pid: int, logind: Logind, ask: Read, root: str = PROC) -> Traces:
    """All of it. `ask` is :func:`pidwarden.kernel.farend.asked`, called with patience."""
    paths = cgroup.paths(pid, root)
    names = names_of(paths)
    status = evidence.status(f"{root}/{pid}")
    number = audit_session(pid, root)
    session = names.session or (str(number) if number is not None else "")
    service = names.unit.endswith(".service")
    stdio, unknown = _stdio(pid, ask, root)
    cwd = _link(f"{root}/{pid}/cwd")
    return Traces(
        login_uid=login_uid(pid, root),
        login=_login(session, logind) if session else None,
        unit=Unit(names.unit, logind.active(names.unit, names.manager), names.manager) if service else None,
        manager=names.manager,
        lingers=names.manager is not None and logind.lingers(names.manager),
        user_open=None if names.manager is None else logind.user(names.manager),
        container=container_of(paths),
        inner_init=bool(status and len(status.nspid) > 1 and status.nspid[-1] == 1),
        hup_ignored=bool(status and status.is_ignored(_SIGHUP)),
        stdio=stdio,
        cwd_deleted=None if cwd is None else cwd.endswith(_DELETED),
        unknown=unknown,
    )


def _login(name: str, logind: Logind) -> Login:
    is_open, leader = logind.session(name)
    return Login(name, is_open, leader, "" if is_open is None else "the login manager's files")


def _stdio(pid: int, ask: Read, root: str) -> tuple[tuple[Std, ...] | None, tuple[str, ...]]:
    """Descriptors 0, 1 and 2, as far as they are open, and what could not be learnt."""
    found, unknown = [], []
    for fd in range(3):
        path = f"{root}/{pid}/fd/{fd}"
        try:
            link = os.readlink(path)
        except PermissionError:
            return None, (f"where its input and output lead: {_RIGHT}",)
        except OSError:
            continue  # closed, or the process is gone
        one = Std(fd, link, gone=False)
        gone: bool | None = False
        if one.terminal and link.endswith(_DELETED):
            gone = True
        elif one.pipe or link.startswith(_PTS):  # to close a serial line may take long, were we the last to have it
            try:
                gone = ask(path) == farend.GONE
            except OSError as why:
                gone = None
                unknown.append(f"who is at the other end of descriptor {fd}: {_reason(why)}")
        found.append(Std(fd, link, gone))
    return tuple(found), tuple(unknown)


def _reason(why: OSError) -> str:
    if isinstance(why, TimeoutError):
        return "the kernel did not answer: the process seems stuck in the midst of execve"
    if why.errno in (errno.EPERM, errno.EACCES):
        return _RIGHT
    if why.errno == errno.ENOSYS:
        return "this kernel has no pidfd_getfd(2)"
    return why.strerror or str(why)


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None

"""Every error pidwarden raises, drawn once. The command line alone turns one into an exit code.

    PidwardenError (1)
    ├── UsageError (2)          a selector, a setting or an argument is malformed
    │   └── ConfigError         … in a configuration file, with its line
    ├── NoPermission (3)        root, a capability or a file mode is missing
    └── NotPossible (4)         this kernel or this machine cannot do it
        └── BpfError            … because of what a bpf(2) call answered

A message says what was tried, why it failed, and what to type next.
"""

from __future__ import annotations

import errno
import os


class PidwardenError(Exception):
    """Something was found or failed as documented."""

    exit_code = 1


class UsageError(PidwardenError):
    """What was asked for cannot be understood."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file is not valid; nothing of it was applied."""


class NoPermission(PidwardenError):  # noqa: N818  (what happened, said in two words)
    """The caller lacks a right."""

    exit_code = 3


class NotPossible(PidwardenError):  # noqa: N818
    """The machine cannot do what was asked."""

    exit_code = 4


class BpfError(NotPossible):
    """A bpf(2) operation failed with ``errno``."""

    def __init__(self, what: str, code: int, hint: str = "") -> None:
        self.errno = code
        name = errno.errorcode.get(code, str(code))
        super().__init__(f"{what}: {os.strerror(code)} ({name})" + (f"; {hint}" if hint else ""))


def bpf_error(what: str, code: int) -> PidwardenError:
    """The one place where an errno of the kernel's BPF side becomes one of ours."""
    if code in (errno.EPERM, errno.EACCES):
        if os.geteuid() != 0:
            return NoPermission(f"{what}: {os.strerror(code)}; BPF needs root: type `sudo pidwarden …`")
        return BpfError(what, code, "this kernel or container refuses BPF even to root; see `pidwarden doctor`")
    hints = {
        errno.EINVAL: "this kernel is too old or was built without it; see `pidwarden doctor`",
        errno.ENOENT: "the kernel does not have it; see `pidwarden doctor`",
        errno.ESRCH: "the kernel has no BTF or lacks a type; see `pidwarden doctor`",
        errno.ENOSYS: "the kernel was built without CONFIG_BPF_SYSCALL",
        errno.ENOMEM: "not enough memory for the maps; lower `max_records` in the configuration",
    }
    return BpfError(what, code, hints.get(code, "see `pidwarden doctor`"))

"""The files that make a limit last: their names and their text, to the letter. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# The last of all names, or nearly: what comes later in the order of names decides (sysctl.d(5)).
_SYSCTL = "etc/sysctl.d/99-zz-pidwarden-{}.conf"
_MODULES = "etc/modules-load.d/pidwarden-{}.conf"


class ConfigFile(NamedTuple):
    """A file that is to be written."""

    path: str
    text: str


def sysctl_file(name: str, root: str = "/") -> str:
    """Where a limit is kept: a file of its own, so that each can be undone by itself."""
    return f"{root.rstrip('/')}/{_SYSCTL.format(name)}"


def sysctl(name: str, command: str, lines: Sequence[tuple[str, str]], root: str = "/") -> ConfigFile:
    """The file that sets these keys (dotted) at boot, in order."""
    text = _header(name, command) + "".join(f"{key} = {value}\n" for key, value in lines)
    return ConfigFile(sysctl_file(name, root), text)


def module(name: str, command: str, module_name: str, root: str = "/") -> ConfigFile:
    """The file that has a module loaded before sysctls are set (systemd-sysctl.service comes after modules-load)."""
    why = "# Loaded before sysctl.d is applied: its settings do not exist until then.\n"
    path = f"{root.rstrip('/')}/{_MODULES.format(name)}"
    return ConfigFile(path, _header(name, command) + why + f"{module_name}\n")


def _header(name: str, command: str) -> str:
    return (
        f"# Written by pidwarden: `pidwarden {command}`\n"
        f"# The way back: `pidwarden undo {name}`; it removes this file and sets what was before.\n"
    )


def module_note(path: str, *, systemd: bool) -> str:
    """What to know of the module; `path` is the file that has it loaded, empty: it is built in."""
    if not path:
        return "connection tracking is built into this kernel: its sysctls are there when sysctl.d is applied"
    if not systemd:
        return f"this init may not read {path}: see that it loads nf_conntrack before it applies sysctl.d"
    return "the module is loaded before sysctl.d is applied, so that a firewall that comes later finds it as it is set"

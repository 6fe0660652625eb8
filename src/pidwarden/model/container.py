"""Which container a cgroup path belongs to, by the names that engines and systemd give to cgroups. Pure.

A name says who a process seems to belong to, never what may be done to it: whoever owns a part of the cgroup tree (a
user with a systemd of his own) can call a cgroup there what he likes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pidwarden.model.text import escape

_DELETED = " (deleted)"  # what the kernel adds to the path of a cgroup that was removed under its last zombie
_HEX = r"([0-9a-f]{64})"
_POD = r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_NAME = r"([A-Za-z0-9][A-Za-z0-9_.\\-]{0,127})"
_SHORT = 12
_LEAST = 1

# How the systemd driver of each engine calls a container's scope.
_SCOPES = (
    ("docker", re.compile(rf"docker-{_HEX}\.scope")),
    ("containerd", re.compile(rf"(?:cri-containerd|nerdctl)-{_HEX}\.scope")),
    ("cri-o", re.compile(rf"crio-{_HEX}(?:\.scope)?")),
    ("podman", re.compile(rf"libpod-(?:payload-)?{_HEX}(?:\.scope)?")),
)
# What a cgroupfs driver makes of the systemd driver's three words, where the two are mixed up.
_COLONS = re.compile(rf"[^:]*:(docker|cri-containerd|crio|libpod|nerdctl):{_HEX}")
_COLON_ENGINES = {"cri-containerd": "containerd", "nerdctl": "containerd", "crio": "cri-o", "libpod": "podman"}
_BARE = re.compile(_HEX)
_POD_NAME = re.compile(rf"(?:kubepods(?:-besteffort|-burstable|-guaranteed)?-)?{_POD}(?:\.slice)?(?::.*)?")
_NSPAWN_SCOPE = re.compile(rf"machine-{_NAME}\.scope")
_NSPAWN_SERVICE = re.compile(rf"systemd-nspawn@{_NAME}\.service")
_LXC = re.compile(rf"lxc\.payload\.{_NAME}")
_ONE_NAME = re.compile(_NAME)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


class Container(NamedTuple):
    """A container: who runs it, its id (64 hex digits, or a name where there is none), and the pod it is in."""

    engine: str
    id: str
    pod: str = ""

    @property
    def short(self) -> str:
        """As engines show it: twelve digits of a long id, the whole of a name."""
        return self.id[:_SHORT] if _BARE.fullmatch(self.id) else self.id

    def __str__(self) -> str:
        return f"{self.engine}:{self.short}"


def _unescape(name: str) -> str:
    r"""A name as it was before systemd escaped it: ``\x2d`` is a hyphen (systemd-escape(1))."""
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
    return text if text.isprintable() and text.isascii() else name


def _engine_of_bare(above: list[str]) -> str:
    """Who made a cgroup that is called by an id alone: its cgroupfs driver puts it below a name of its own."""
    parent = above[-1] if above else ""
    if _POD_NAME.fullmatch(parent):
        return "kubernetes"
    return parent if parent in ("docker", "garden") else "ecs" if "ecs" in above else "unknown"


def _machine(part: str) -> Container | None:
    if found := _NSPAWN_SERVICE.fullmatch(part):
        return Container("systemd-nspawn", _unescape(found[1]))
    if found := _NSPAWN_SCOPE.fullmatch(part):
        name = _unescape(found[1])
        if name.startswith("qemu-"):  # a virtual machine of libvirt's: its processes are the emulator's
            return None
        return Container("lxc" if name.startswith("lxc-") else "systemd-nspawn", name)
    return None


def _at(part: str, above: list[str], pod: str) -> Container | None:
    for engine, pattern in _SCOPES:
        if found := pattern.fullmatch(part):
            return Container(engine, found[1], pod)
    if found := _COLONS.fullmatch(part):
        return Container(_COLON_ENGINES.get(found[1], found[1]), found[2], pod)
    if _BARE.fullmatch(part):
        return Container(_engine_of_bare(above), part, pod)
    if found := _LXC.fullmatch(part):
        return Container("lxc", found[1])
    if above and above[-1] in ("lxc", "lxc.payload") and _ONE_NAME.fullmatch(part):
        return Container("lxc", part)
    return _machine(part)


def containers(path: str) -> list[Container]:
    """The containers on a cgroup's path, the outermost first. `path` is as ``/proc/PID/cgroup`` shows it.

    ``/../`` in front, what a cgroup namespace shows of a cgroup outside of it, does not matter: names count wherever
    they stand.
    """
    found: list[Container] = []
    above: list[str] = []
    pod = ""
    for part in path.removesuffix(_DELETED).split("/"):
        if part in ("", ".", ".."):
            continue
        if in_pod := _POD_NAME.fullmatch(part):
            pod = in_pod[1].replace("_", "-")
        if container := _at(part, above, pod):
            found.append(container)
        above.append(part)
    return found


def container_of(paths: list[str]) -> Container | None:
    """The innermost container of a process, by its paths in every hierarchy; None if it seems to be in none.

    Hierarchies may disagree (v1 engines skip some): the path with most containers on it has seen most.
    """
    best: list[Container] = max(map(containers, paths), key=len, default=[])
    return best[-1] if best else None


def is_id(text: str) -> bool:
    """Whether it can be a container's id, the beginning of one, or a name."""
    return len(text) >= _LEAST and bool(_ONE_NAME.fullmatch(text))


def meant(text: str, ids: set[str]) -> list[str]:
    """Those of `ids` that `text` names: the one it is, else all that begin with it; as docker has it."""
    return [text] if text in ids else sorted(i for i in ids if _BARE.fullmatch(i) and i.startswith(text))


class Place(NamedTuple):
    """Where a process is. ``inner_pid``: what it is called in its own pid namespace, None if that is ours."""

    inner_pid: int | None = None
    cgroup: str | None = None  # as our cgroup namespace shows it; bytes that its owner chose
    container: Container | None = None

    def object(self) -> dict[str, object]:
        """For events and ``--json``: null for none, and for what nobody knows."""
        return {
            "inner_pid": self.inner_pid,
            "cgroup": None if self.cgroup is None else escape(self.cgroup.encode("utf-8", "surrogateescape")),
            "container": str_or_none(self.container),
        }


NOWHERE = Place()


def str_or_none(container: Container | None) -> str | None:
    """``engine:id`` with the whole id."""
    return container and f"{container.engine}:{container.id}"


def short_name(text: str) -> str:
    """The same with the id as engines show it."""
    engine, _colon, number = text.partition(":")
    return str(Container(engine, number))

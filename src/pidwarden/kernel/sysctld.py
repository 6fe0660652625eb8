"""The files that set sysctls at boot, in the order in which they are applied (sysctl.d(5), sysctl.conf(5)).

Of files with one name in several folders only that of the first folder counts; all are applied in the order of their
names. systemd does not read ``/etc/sysctl.conf``, `sysctl --system` of procps reads it last.
"""

from __future__ import annotations

import os
import stat

from pidwarden.model.owner import Assignment

FOLDERS = ("etc", "run", "usr/local/lib", "usr/lib", "lib")  # the first wins
_MOST = 1 << 18
_SYSTEMD = "run/systemd/system"  # sd_booted(3)


def booted_with_systemd(root: str = "/") -> bool:
    """Whether systemd is the init."""
    return os.path.isdir(os.path.join(root, _SYSTEMD))


def read_text(path: str, most: int = _MOST) -> str | None:
    """A file's text; None if it is not there, is no file, or is not for us. Never waits for who writes a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = b""
        while len(data) < most and (part := os.read(fd, most - len(data))):
            data += part
    except OSError:
        return None
    finally:
        os.close(fd)
    return os.fsdecode(data)


def drop_ins(kind: str, root: str = "/", suffix: str = ".conf") -> list[str]:
    """The files of ``/etc/KIND`` and the other folders, in the order of their names. A mask is one of them as well."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        where = os.path.join(root, folder, kind)
        try:
            names = os.listdir(where)
        except OSError:
            continue
        for name in names:
            if name.endswith(suffix):
                found.setdefault(name, os.path.join(where, name))
    return [found[name] for name in sorted(found, key=os.fsencode)]


def assignments(root: str = "/") -> list[Assignment]:
    """All lines of all files, those applied later behind."""
    found: list[Assignment] = []
    for path in drop_ins("sysctl.d", root):
        found += parse(path, read_text(path) or "")
    late = os.path.join(root, "etc/sysctl.conf")
    applied = not booted_with_systemd(root)
    return found + [line._replace(applied=applied) for line in parse(late, read_text(late) or "")]


def parse(path: str, text: str) -> list[Assignment]:
    """The lines of one file; what is none is passed over, as systemd does it."""
    found = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        key = key.strip()
        quiet = key.startswith("-")  # errors are ignored; without a value, it is taken out of what patterns match
        key = slashed(key[1:].strip() if quiet else key)
        if key and (equals or quiet):
            found.append(Assignment(path, number, key, " ".join(value.split()) if equals else None))
    return found


def slashed(key: str) -> str:
    """A key as below /proc/sys: if a dot comes before any slash, the two are exchanged (sysctl.d(5))."""
    first = next((c for c in key if c in "./"), "/")
    return key if first == "/" else key.translate(str.maketrans("./", "/."))

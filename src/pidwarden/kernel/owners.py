"""Who else sets the kernel's limits: the kernel's command line, module options, kube-proxy, tuned, ufw, cloud-init."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from pidwarden.kernel import procfs
from pidwarden.kernel.procfs import PROC
from pidwarden.kernel.sysctld import drop_ins, parse, read_text, slashed
from pidwarden.model.owner import Claim

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX, _BUCKETS = "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_buckets"
# kube-proxy, and the programs that have it inside of them (k3s, rke2, microk8s).
_PROXIES = {b"kube-proxy": "kube-proxy", b"k3s-server": "k3s", b"k3s-agent": "k3s", b"kubelite": "microk8s"}
_PROXY_FILES = (
    "var/lib/kube-proxy/config.conf", "var/lib/kube-proxy/config.yaml", "var/lib/kube-proxy/kube-proxy-config.yaml",
    "var/lib/kubernetes/kube-proxy-config.yaml", "etc/kubernetes/kube-proxy.yaml", "etc/kubernetes/kube-proxy/config",
    "etc/kubernetes/kube-proxy-config.yaml", "etc/kubernetes/manifests/kube-proxy.yaml",
    "etc/kubernetes/manifests/kube-proxy.manifest", "var/snap/microk8s/current/args/kube-proxy",
)  # fmt: skip
_PER_CORE, _FLOOR = 32768, 131072  # its defaults (pkg/proxy/apis/config/v1alpha1/defaults.go)
_OPTION = re.compile(r"(maxPerCore|min|--conntrack-max-per-core|--conntrack-min)\b[\"']?\s*[:= ]\s*[\"']?(\d+)")
_HASHSIZE = re.compile(r"\bhashsize=(\d+)")
_CLOUD = ("etc/cloud/cloud.cfg", "var/lib/cloud/instance/user-data.txt", "var/lib/cloud/instance/cloud-config.txt")


def claims(keys: Iterable[str], root: str = "/", proc: str = PROC) -> list[Claim]:
    """All who set one of these sysctls (dotted), those who decide behind. Files that are not for us are passed over."""
    wanted = {slashed(key) for key in keys}
    found = _cloud_init(wanted, root) + _command_line(wanted, proc)
    if wanted & {_MAX, _BUCKETS}:
        found += _module_options(root)
    found += _tuned(wanted, root) + _ufw(root)
    if wanted & {_MAX, _BUCKETS}:
        found += _kube_proxy(root, proc)
    return [claim for claim in found if claim.key in wanted]


def _command_line(wanted: set[str], proc: str) -> list[Claim]:
    """Options of the kernel: ``sysctl.KEY=VALUE`` (since 5.8), applied before any file; ``nf_conntrack.hashsize=``."""
    found = []
    words = (procfs.read_bytes(f"{proc}/cmdline", 16384) or b"").decode("utf-8", "surrogateescape").split()
    for word in words:
        name, _equals, value = word.partition("=")
        if name == "nf_conntrack.hashsize":
            does = f"sets the buckets to {value} when connection tracking starts, and max to eight times that"
            found.append(Claim("the kernel's command line", f"{proc}/cmdline", does, _BUCKETS, value))
        key = slashed(name.removeprefix("sysctl."))
        if name.startswith("sysctl.") and key in wanted:
            does = f"sets {key.replace('/', '.')} to {value} before any file is applied"
            found.append(Claim("the kernel's command line", f"{proc}/cmdline", does, key, value))
    return found


def _module_options(root: str) -> list[Claim]:
    """``options nf_conntrack hashsize=`` (modprobe.d(5)), and commands that run when the module is loaded."""
    found = []
    for path in drop_ins("modprobe.d", root):
        for number, line in enumerate((read_text(path) or "").split("\n"), 1):
            words = line.split()
            if len(words) < 3 or words[1] not in ("nf_conntrack", "ip_conntrack"):  # noqa: PLR2004
                continue
            where = f"{path}:{number}"
            if words[0] == "options" and (match := _HASHSIZE.search(line)):
                does = f"sets the buckets to {match[1]} when the module is loaded, and max to eight times that"
                found.append(Claim("an option of the module", where, does, _BUCKETS, match[1]))
            elif words[0] == "install":
                found += [Claim("a command of modprobe", where, "runs when the module is loaded", k) for k in (_MAX,)]
    return found


def _kube_proxy(root: str, proc: str) -> list[Claim]:
    files = [os.path.join(root, name) for name in _PROXY_FILES]
    files = [path for path in files if os.path.isfile(path)]
    running = _running(_PROXIES, proc)
    if not files and not running:
        return []
    limits = {}
    for path in files:
        for name, number in _OPTION.findall(read_text(path) or ""):
            limits["floor" if name.endswith("min") else "core"] = int(number)
    core, floor = limits.get("core", _PER_CORE), limits.get("floor", _FLOOR)
    where = files[0] if files else f"it runs as process {running[0][0]}"
    who = _PROXIES[running[0][1]] if running else "kube-proxy"
    if core == 0:
        return []  # it leaves the value alone
    value = str(max(core * (os.cpu_count() or 1), floor))
    does = (
        f"sets max to {value} whenever it starts, and the buckets to a quarter of that if they are fewer: "
        "change conntrack.maxPerCore and conntrack.min in its configuration, or set maxPerCore to 0"
    )
    return [
        Claim(who, where, does, _MAX, value, last=True),
        Claim(who, where, does, _BUCKETS, "", last=False),
    ]


def _running(names: Iterable[bytes], proc: str) -> list[tuple[int, bytes]]:
    """Who runs under one of these names. A name is its owner's choice: good for a warning, no more."""
    try:
        pids = [int(name) for name in os.listdir(proc) if name.isdecimal()]
    except OSError:
        return []
    comms = ((pid, (procfs.read_bytes(f"{proc}/{pid}/comm", 64) or b"").rstrip()) for pid in pids)
    return sorted((pid, comm) for pid, comm in comms if comm in names)


def _tuned(wanted: set[str], root: str) -> list[Claim]:
    """The [sysctl] part of the active profile and of those that it includes (tuned.conf(5))."""
    active = (read_text(os.path.join(root, "etc/tuned/active_profile")) or "").split()
    found: list[Claim] = []
    seen: set[str] = set()
    while active and len(seen) < 16:  # noqa: PLR2004  (profiles that include each other)
        name = active.pop(0)
        if name in seen or "/" in name:
            continue
        seen.add(name)
        for folder in ("etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned"):
            path = os.path.join(root, folder, name, "tuned.conf")
            text = read_text(path)
            if text is None:
                continue
            active += _of_part(text, "main", "include")
            for number, line in _of_part_lines(text, "sysctl"):
                found += [
                    Claim("tuned", f"{path}:{number}", _tuned_does(a.value or ""), a.key, a.value or "", last=True)
                    for a in parse(path, line)
                    if a.key in wanted
                ]
            break
    return found


def _of_part_lines(text: str, wanted: str) -> list[tuple[int, str]]:
    """The lines of one part of an ini file, numbered."""
    part, found = "", []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line.startswith("["):
            part = line.strip("[]")
        elif part == wanted and line:
            found.append((number, line))
    return found


def _of_part(text: str, wanted: str, key: str) -> list[str]:
    """The words of one key."""
    lines = [line.partition("=") for _number, line in _of_part_lines(text, wanted)]
    return [
        word for name, _equals, value in lines if name.strip() == key for word in re.split(r"[\s,]+", value.strip())
    ]


def _tuned_does(value: str) -> str:
    return f"sets it to {value} whenever the profile is applied, after the files of sysctl.d: change it there"


def _ufw(root: str) -> list[Claim]:
    """The sysctls of the firewall ufw, which it sets whenever it starts (ufw-framework(8))."""
    path = os.path.join(root, "etc/ufw/sysctl.conf")
    does = "sets it to {} whenever it starts, after the files of sysctl.d: change it there"
    return [
        Claim("ufw", f"{path}:{a.line}", does.format(a.value), a.key, a.value or "", last=True)
        for a in parse(path, read_text(path) or "")
    ]


def _cloud_init(wanted: set[str], root: str) -> list[Claim]:
    """Files of cloud-init that name one of the keys: what they write there, they write again."""
    files = [os.path.join(root, name) for name in _CLOUD]
    with contextlib.suppress(OSError):
        folder = os.path.join(root, "etc/cloud/cloud.cfg.d")
        files += [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".cfg")]
    found = []
    for path in files:
        for number, line in enumerate((read_text(path) or "").split("\n"), 1):
            named = [key for key in sorted(wanted) if key in line or key.replace("/", ".") in line]
            does = "names it: an instance made from the same data sets it again"
            if not line.lstrip().startswith("#"):
                found += [Claim("cloud-init", f"{path}:{number}", does, key) for key in named]
    return found

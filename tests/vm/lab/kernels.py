"""Stock Debian kernels: fetched through apt with a configuration of their own, unpacked, never installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from lab.errors import LabError, Unavailable

ROOT = Path(__file__).resolve().parents[3]
# Suites by age, and the version each is known to have; where it moves with time, none.
SUITES = {
    "bullseye": "5.10",
    "bookworm": "6.1",
    "trixie": "6.12",
    "bookworm-backports": None,
    "trixie-backports": None,
    "forky": None,
    "sid": None,
}
DEFAULT = "bookworm"
_META = "linux-image-cloud-amd64"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MINUTES = 15


class Kernel(NamedTuple):
    """A kernel to boot."""

    name: str  # the suite, or the file it was given as
    release: str  # what `uname -r` will say
    image: Path


def cache() -> Path:
    """Where everything fetched or built lies: PIDWARDEN_VM_CACHE, or build/vm in this tree."""
    return Path(os.environ.get("PIDWARDEN_VM_CACHE") or ROOT / "build/vm")


def find(name: str = DEFAULT) -> Kernel:
    """The kernel of a suite, of a version such as ``6.1``, or of a file; fetched if it is not in the cache.

    Raises:
        Unavailable: it cannot be downloaded here.
        LabError: there is no such kernel.
    """
    if "/" in name:
        if not os.path.exists(name):
            msg = f"{name}: no such kernel image; give a file, or one of {', '.join(SUITES)}"
            raise LabError(msg)
        return Kernel(name, os.path.basename(name).removeprefix("vmlinuz-"), Path(name))
    suite = name if name in SUITES else next((s for s, version in SUITES.items() if version == name), None)
    if suite is None:
        known = ", ".join(f"{s} ({v})" if v else s for s, v in SUITES.items())
        msg = f"{name}: no such kernel; known are {known}, or a file's path with a slash in it"
        raise LabError(msg)
    folder = cache() / "kernels" / suite
    if not (images := list(folder.glob("vmlinuz-*"))):
        _fetch(suite, folder)
        images = list(folder.glob("vmlinuz-*"))
    return Kernel(suite, images[0].name.removeprefix("vmlinuz-"), images[0])


def _fetch(suite: str, folder: Path) -> None:
    """Downloads a suite's kernel package and takes the image out of it."""
    if not shutil.which("apt-get"):
        msg = "apt-get is not on this machine, and the kernels are Debian packages; give an image with --kernel PATH"
        raise Unavailable(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder.parent) as scratch:
        conf = _configuration(Path(scratch), suite)
        _apt(suite, "apt-get", "-c", conf, "-q", "update")
        # The meta package depends on the image; from 7.x on the image in its turn on the package with the file in it.
        name = _META
        for wanted in (r"linux-image-\S+-cloud-amd64", r"linux-binary-\S+-cloud-amd64"):
            shown = _apt(suite, "apt-cache", "-c", conf, "show", name)
            if found := re.search(rf"^Depends: .*?({wanted})", shown, re.MULTILINE):
                name = found[1]
        _apt(suite, "apt-get", "-c", conf, "-q", "download", name, cwd=scratch)
        (package,) = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, f"{scratch}/root"], check=True)
        unpacked = Path(scratch, "unpacked")
        unpacked.mkdir()
        for file in sorted(Path(scratch, "root").rglob("vmlinuz*")):  # boot/vmlinuz-VERSION, or modules/VERSION/vmlinuz
            release = file.name.removeprefix("vmlinuz").removeprefix("-") or file.parent.name
            shutil.move(file, unpacked / f"vmlinuz-{release}")
        if not list(unpacked.glob("vmlinuz-*")):
            msg = f"{package.name} of {suite} has no vmlinuz; see `dpkg-deb -c` of it"
            raise LabError(msg)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def _apt(suite: str, *command: str, cwd: str | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_MINUTES * 60,
            check=False,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
        )
        said, code = done.stderr.strip() or done.stdout.strip(), done.returncode
    except subprocess.TimeoutExpired:
        said, code = f"no answer for {_MINUTES} minutes", -1
    if code or any(line.startswith(("E:", "Err:")) for line in said.splitlines()):
        msg = (
            f"cannot fetch the kernel of {suite}: `{' '.join(command)}` failed:\n{said}\n"
            "Check the network and `apt-get update`; for a key that is missing type `apt-get install "
            "debian-archive-keyring`; for another mirror set PIDWARDEN_VM_MIRROR; or give an image with --kernel PATH"
        )
        raise Unavailable(msg)
    return done.stdout


def _configuration(scratch: Path, suite: str) -> str:
    """An apt configuration that uses the machine's proxies and keys, and touches nothing of the machine's."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").touch()
    (scratch / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror()} {suite} main\n")
    conf = scratch / "apt.conf"
    conf.write_text(
        "#clear APT::Update;\n#clear DPkg;\n"  # hooks that clean or refresh what is the machine's own
        f'Dir::Etc::SourceList "{scratch}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
        f'Dir::State "{scratch}/state";\nDir::State::status "{scratch}/status";\nDir::Cache "{scratch}/cache";\n'
        'APT::Architecture "amd64";\nAPT::Architectures "amd64";\n'
        'APT::Sandbox::User "root";\n'  # the cache need not be readable to _apt
        'Acquire::Languages "none";\nAcquire::Retries "3";\nAcquire::GzipIndexes "true";\n'
    )
    return str(conf)


def mirror() -> str:
    """The Debian mirror of this machine: PIDWARDEN_VM_MIRROR, or what its apt sources name.

    Raises:
        Unavailable: they name none.
    """
    if given := os.environ.get("PIDWARDEN_VM_MIRROR"):
        return given
    form = "$(RELEASE)|$(COMPONENT)|$(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    aliases = {"stable", "oldstable", "testing", "unstable"}
    for line in done.stdout.splitlines():
        release, component, uri = line.split("|")
        if component == "main" and (release in SUITES or release in aliases):
            return uri
    msg = (
        "the apt sources of this machine name no Debian mirror (`apt-get indextargets` shows them); set "
        "PIDWARDEN_VM_MIRROR to the address of one, or give an image with --kernel PATH"
    )
    raise Unavailable(msg)

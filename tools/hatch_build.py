"""Compiles bpf/ with clang when the package is built. Nothing is compiled when it runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_HEADER = "bpf/bpf_helpers.h"
_FLAGS = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"]


def include_folders() -> list[str]:
    """Where Debian and others put the kernel's asm/ headers, which clang does not find for the bpf target."""
    return [str(p.parent) for p in Path("/usr/include").glob("*-linux-gnu/asm")]


def compile_objects(root: Path) -> list[Path]:
    """Compiles each bpf/NAME.bpf.c below `root` if anything there is newer than its object; the objects' paths.

    Raises:
        RuntimeError: clang or libbpf's headers are missing, or the source does not compile.
    """
    newest = max(path.stat().st_mtime for path in (root / "bpf").iterdir())
    return [_compile(source, root, newest) for source in sorted((root / "bpf").glob("*.bpf.c"))]


def _compile(source: Path, root: Path, newest: float) -> Path:
    target = root / "src" / "pidwarden" / "bpf" / source.with_suffix(".o").name
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    clang = shutil.which("clang")
    if clang is None:
        raise RuntimeError("clang is needed to compile bpf/; on Debian type `apt-get install clang`")
    if not any((Path(folder) / _HEADER).exists() for folder in ("/usr/include", "/usr/local/include")):
        raise RuntimeError(f"{_HEADER} is needed to compile bpf/; on Debian type `apt-get install libbpf-dev`")
    target.parent.mkdir(parents=True, exist_ok=True)
    folders = [f"-I{folder}" for folder in include_folders()]
    done = subprocess.run(  # noqa: S603  (clang, and our own source)
        [clang, *_FLAGS, *folders, "-c", str(source), "-o", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"compiling {source} failed:\n{done.stderr}")
    return target


class BpfBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the object into the wheel and into an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        del version
        compile_objects(Path(self.root))
        build_data["artifacts"].append("src/pidwarden/bpf/*.o")

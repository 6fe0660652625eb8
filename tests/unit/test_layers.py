"""DESIGN.md's layers, read from the imports; what the guard must not have; and how long a file may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pidwarden

PACKAGE = Path(pidwarden.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
GUARD = ("pidwarden.cli.main", "pidwarden.cli.guard")
MAX_LINES = 400

# layer: the layers it may import, itself apart. `pidwarden` is the package's own __init__: the version.
BELOW = {
    "errors": set(),
    "pidwarden": set(),
    "model": set(),
    "settings": {"errors", "model"},
    "kernel": {"model", "errors"},
    "judge": {"model"},
    "diagnose": {"model"},
    "watch": {"model", "kernel", "errors"},
    "act": {"model", "kernel", "errors", "watch"},
    "trace": {"model", "kernel", "errors"},
}
BELOW["guard"] = {*BELOW}
BELOW["drill"] = {*BELOW} - {"guard"}
BELOW["rescue"] = {*BELOW} - {"drill"}
BELOW["cli"] = {*BELOW}
BELOW["__main__"] = {"cli", "rescue"}


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def layer(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def imports(path: Path) -> list[str]:
    """Every module that is imported anywhere in a file, inside functions and for type checking too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            assert node.module
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else node.module for name in names]
    return found


def own(path: Path) -> list[str]:
    return [name for name in imports(path) if name.split(".")[0] == "pidwarden"]


def reachable(*start: str) -> set[str]:
    """Modules of the package that those import, directly or not, and the packages they lie in."""
    found, todo = set(), list(start)
    while todo:
        name = todo.pop()
        if name in found or name not in MODULES:
            continue
        found.add(name)
        todo += [*own(MODULES[name]), name.rpartition(".")[0]]
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards_only(name):
    allowed = BELOW[layer(name)] | {layer(name)}
    if name == "pidwarden.model.selector":
        allowed = allowed | {"errors"}
    assert {layer(other) for other in own(MODULES[name])} <= allowed


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_the_command_line(name):
    if layer(name) not in ("cli", "__main__"):
        assert not [other for other in own(MODULES[name]) if layer(other) == "cli"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is(name):
    text = MODULES[name].read_text()
    assert not text or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("name", MODULES)
def test_no_file_is_two_things(name):
    assert len(MODULES[name].read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", sorted(reachable(*GUARD)))
def test_the_guard_starts_no_process_and_no_thread(name):
    forbidden = {"subprocess", "threading", "asyncio", "multiprocessing", "concurrent", "_thread", "pty"}
    assert not forbidden & {other.split(".")[0] for other in imports(MODULES[name])}
    # find_library runs ldconfig and gcc
    calls = [n.attr for n in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(n, ast.Attribute)]
    # The waker once, before the guard is ready; `rescue --prepare` by itself, before there is anything to rescue.
    allowed = {"posix_spawn"} if name.endswith(("guard.waker", "rescue.prepare")) else set()
    assert not ({"find_library", "fork", "forkpty", "posix_spawn", "system", "popen"} - allowed) & set(calls)
    assert "ctypes.util" not in imports(MODULES[name])


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) == "trace"])
def test_of_a_trace_only_three_files_meet_the_kernel(name):
    """The rest has the standard library's constants (os.O_RDONLY), and asks nobody."""
    asks = any(other.startswith(("pidwarden.kernel", "ctypes", "mmap", "select")) for other in imports(MODULES[name]))
    assert asks == (name.rpartition(".")[2] in ("tracer", "rings", "enlist"))


def test_the_guard_is_found_to_be_made_of_what_it_is():
    found = reachable(*GUARD)
    assert {"pidwarden.guard.loop", "pidwarden.judge.guilt", "pidwarden.kernel.libbpf", "pidwarden.act.kill"} <= found
    assert "pidwarden.cli.drill" not in found


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) in ("model", "judge", "diagnose")])
def test_pure_layers_do_no_input_or_output(name):
    assert not {"os", "io", "sys", "socket", "ctypes", "pathlib", "time", "subprocess"} & set(imports(MODULES[name]))
    tree = ast.parse(MODULES[name].read_text())
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert not calls & {"open", "print", "input"}

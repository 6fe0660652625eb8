"""Workloads of which nobody may be killed, and which may hardly be held."""

from __future__ import annotations

import sys

from innocent_services import SERVICES
from workload import PROPS, Place, Workload, shell

_FILES = 300


def _c_project(place: Place) -> None:
    for n in range(_FILES):
        body = "\n".join(f"int f{n}_{k}(int x) {{ return x % {k + 2} ? x / {k + 1} : f{n}_0(x - 1); }}" for k in range(9))
        place.write(f"src/f{n}.c", f"#include <stdlib.h>\nint f{n}_0(int);\n{body.replace(f'f{n}_0(int x) {{', f'f{n}_0(int x) {{ (void)abs(x);', 1)}\n")
    objects = " ".join(f"src/f{n}.o" for n in range(_FILES))
    place.write("Makefile", f"all: {objects}\n%.o: %.c\n\tgcc -O1 -c $< -o $@\n")
    rules = [f"build src/f{n}.o: cc src/f{n}.c" for n in range(_FILES)]
    place.write("build.ninja", "rule cc\n  command = gcc -O1 -c $in -o $out\n" + "\n".join(rules) + "\n")


def _objects(place: Place) -> str | None:
    made = place.count("src/*.o")
    return None if made == _FILES else f"{_FILES - made} of {_FILES} objects were not built"


def _build(name: str, what: str, *command: str) -> Workload:
    needs = (command[0], "gcc")
    return Workload(name, "innocent", what, lambda _p: list(command), _c_project, _objects, needs, 120.0)


def _lines(count: int) -> object:
    def check(place: Place) -> str | None:
        found = len(place.text("output").splitlines())
        return None if found == count else f"{found} lines of output, not {count}"

    return check


def _pool(place: Place) -> None:
    place.compiled("pool")


def _says(word: str) -> object:
    def check(place: Place) -> str | None:
        return None if word in place.text("output") else f"it did not say {word!r}"

    return check


INNOCENT = (
    _build("make-j", f"make -j without a limit, {_FILES} C files", "make", "-j"),
    _build("make-j64", f"make -j64, {_FILES} C files", "make", "-j64"),
    _build("ninja", f"ninja -j400, {_FILES} C files", "ninja", "-j400"),
    Workload(
        "xargs",
        "innocent",
        "xargs -P 64 over 1,000 short commands",
        shell("seq 1000 | xargs -P 64 -I% sh -c 'sleep .05; echo %'"),
        check=_lines(1000),
        needs=("xargs",),
    ),
    Workload(
        "background-400",
        "innocent",
        "a shell script that starts 400 programs in the background and waits",
        shell("for i in $(seq 400); do sleep 1 & done; wait; echo all"),
        check=_says("all"),
    ),
    Workload(
        "pool-python",
        "innocent",
        "1,000 threads of a Python pool, started at once",
        lambda _place: [sys.executable, str(PROPS / "pool.py"), "1000"],
        check=_says("1000 done"),
    ),
    Workload(
        "pool-c",
        "innocent",
        "1,000 threads of a C program, started at once",
        lambda place: [str(place.dir / "pool"), "1000"],
        prepare=_pool,
        check=_says("1000 done"),
    ),
    Workload(
        "shell-loop",
        "innocent",
        "a shell loop that forks for ever and never grows",
        shell("while :; do /bin/true; (:); done"),
        seconds=5.0,
        stop=True,
    ),
    Workload(
        "find-exec",
        "innocent",
        "find -exec over 2,000 files",
        shell("mkdir d; cd d; seq 2000 | xargs touch; find . -type f -exec basename {} ';'"),
        check=_lines(2000),
    ),
    Workload(
        "prefork-pool",
        "innocent",
        "a Python multiprocessing pool of 350 workers",
        lambda _place: [sys.executable, str(PROPS / "workers.py"), "350"],
        check=_says("350 done"),
        seconds=60.0,
    ),
    Workload(
        "daemons",
        "innocent",
        "a test suite that double-forks 120 daemons, all alive at once",
        lambda _place: [sys.executable, str(PROPS / "daemons.py"), "120"],
        check=_says("120 daemons"),
    ),
    Workload(
        "cron",
        "innocent",
        "a scheduler that starts 60 jobs at once, four times; a minute lasts two seconds",
        lambda _place: [sys.executable, str(PROPS / "scheduler.py"), "60", "4", "2"],
        check=_says("240 jobs"),
    ),
    Workload(
        "container",
        "innocent",
        "a pid namespace of its own with a small tree in it, as containers have",
        shell(
            "unshare --pid --fork --mount-proc sh -c '"
            "for i in $(seq 30); do sh -c \"sleep 2 & sleep 2 & wait\" & done; sleep .5; ls -d /proc/[0-9]* | wc -l; wait; "
            "echo done'"
        ),
        check=_says("done"),
        needs=("unshare",),
    ),
    *SERVICES,
)

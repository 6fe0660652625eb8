"""Workloads of which nobody may be killed, and which may hardly be held."""

from __future__ import annotations

import sys

from innocent_services import SERVICES
from workload import PROPS, Check, Place, Workload, says, shell

_FILES = 220


_LATE = (
    "import subprocess; started = [subprocess.Popen('true') for _ in range(400)]; "
    "print(sum(p.wait() == 0 for p in started), 'ended', flush=True)"
)
_PART = """
double g{n}_{k}(double *x, int m) {{
  double s = {k};
  for (int i = 0; i < m; i++) for (int j = 0; j < i; j++) s += sin(x[i] * {k}) * x[j] / (1 + fabs(x[i % {k}1]));
  return s;
}}"""


def _c_project(place: Place) -> None:
    """Files that take a tenth of a second each to compile, by a recipe of four processes, so that they overlap."""
    recipe = "gcc -pipe -O2 -c {} -o {}.new && mv {}.new {}"
    for n in range(_FILES):
        parts = "".join(_PART.format(n=n, k=k) for k in range(1, 16))
        place.write(f"src/f{n}.c", f"#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n{parts}\n")
    objects = " ".join(f"src/f{n}.o" for n in range(_FILES))
    place.write("Makefile", f"all: {objects}\n%.o: %.c\n\t{recipe.format('$<', *3 * ['$@'])}\n")
    rules = [f"build src/f{n}.o: cc src/f{n}.c" for n in range(_FILES)]
    place.write(
        "build.ninja", f"rule cc\n  command = {recipe.format('$in', *3 * ['$out'])}\n" + "\n".join(rules) + "\n"
    )


def _objects(place: Place) -> str | None:
    made = place.count("src/*.o")
    return None if made == _FILES else f"{_FILES - made} of {_FILES} objects were not built"


def _build(name: str, what: str, *command: str) -> Workload:
    needs = (command[0], "gcc")
    return Workload(name, "innocent", what, lambda _p: list(command), _c_project, _objects, needs, 120.0)


def _lines(count: int) -> Check:
    def check(place: Place) -> str | None:
        found = len(place.text("output").splitlines())
        return None if found == count else f"{found} lines of output, not {count}"

    return check


def _nested(place: Place) -> None:
    for n in range(25):
        recipe = "\n".join(f"t{k}:\n\t@sleep .3; echo $@ | cat >> ../log" for k in range(12))
        place.write(f"d{n}/Makefile", f"all: {' '.join(f't{k}' for k in range(12))}\n{recipe}\n")
    dirs = " ".join(f"d{n}" for n in range(25))
    place.write("Makefile", f"all: {dirs}\n.PHONY: {dirs}\n{dirs}:\n\t$(MAKE) -C $@\n")


def _logged(place: Place) -> str | None:
    found = len(place.text("log").splitlines())
    return None if found == 25 * 12 else f"{found} of {25 * 12} targets were made"


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
        check=says("all"),
    ),
    Workload(
        "pool-python",
        "innocent",
        "1,000 threads of a Python pool, started at once",
        lambda _place: [sys.executable, str(PROPS / "pool.py"), "1000"],
        check=says("1000 done"),
    ),
    Workload(
        "pool-c",
        "innocent",
        "1,000 threads of a C program, started at once",
        lambda place: [str(place.dir / "pool"), "1000"],
        prepare=lambda place: place.compiled("pool"),
        check=says("1000 done"),
    ),
    Workload(
        "teams",
        "innocent",
        "40 forked processes with 20 threads each, as numeric libraries start them",
        lambda place: [str(place.dir / "teams"), "40", "20"],
        prepare=lambda place: place.compiled("teams"),
        check=says("40 teams"),
    ),
    Workload(
        "make-nested",
        "innocent",
        "make -j in 25 directories, each a make of its own with 12 targets",
        lambda _place: ["make", "-s", "-j"],
        prepare=_nested,
        check=_logged,
        needs=("make",),
    ),
    Workload(
        "walk",
        "innocent",
        "a script that calls itself for every part of a tree, in parallel: 5 wide, 4 deep",
        lambda _place: [str(PROPS / "walk.sh"), "4", "5"],
        check=_lines(5**4),
    ),
    Workload(
        "fork-tree",
        "innocent",
        "a sum by halves, each half in a forked copy: 255 processes, 7 deep",
        lambda _place: [sys.executable, str(PROPS / "forktree.py"), "7"],
        check=says(f"sum {sum(range(1 << 20))}"),
    ),
    Workload(
        "fork-tree-wide",
        "innocent",
        "the same with 511 processes, 8 deep",
        lambda _place: [sys.executable, str(PROPS / "forktree.py"), "8"],
        check=says(f"sum {sum(range(1 << 20))}"),
    ),
    Workload(
        "late-reaper",
        "innocent",
        "a script that starts 400 short programs at once and only then waits for them",
        lambda _place: [sys.executable, "-c", _LATE],
        check=says("400 ended"),
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
        check=says("350 done"),
        seconds=60.0,
    ),
    Workload(
        "daemons",
        "innocent",
        "a test suite that double-forks 120 daemons, all alive at once",
        lambda _place: [sys.executable, str(PROPS / "daemons.py"), "120"],
        check=says("120 daemons"),
    ),
    Workload(
        "cron",
        "innocent",
        "a scheduler that starts 60 jobs at once, four times; a minute lasts two seconds",
        lambda _place: [sys.executable, str(PROPS / "scheduler.py"), "60", "4", "2"],
        check=says("240 jobs"),
    ),
    Workload(
        "container",
        "innocent",
        "a pid namespace of its own with a small tree in it, as containers have",
        shell(
            "unshare --pid --fork --mount-proc sh -c '"
            'for i in $(seq 30); do sh -c "sleep 2 & sleep 2 & wait" & done; '
            "sleep .5; ls -d /proc/[0-9]* | wc -l; wait; echo done'"
        ),
        check=says("done"),
        needs=("unshare",),
    ),
    *SERVICES,
)

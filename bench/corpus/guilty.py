"""Workloads of which a part must be killed, and the rest must not notice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from workload import ENTER, PROPS, PYTHON, Check, Place, Workload, says, shell

from pidwarden.drill import shapes

_TEST_PROPS = Path(__file__).parent.parent.parent / "tests" / "props"
_OBJECTS = 60
_TERMINAL_SECONDS = 10.0
_TICK = "$PYTHON $PROPS/bombs.py"


def _drill(name: str) -> Workload:
    def command(_place: Place) -> list[str]:
        return [ENTER, *PYTHON, shapes.__file__, name]

    what = (shapes.SHAPES[name].__doc__ or "").partition("\n")[0].rstrip(".")
    return Workload(f"drill-{name}", "guilty", what, command)


def _bomb(name: str, what: str, seconds: float = 30.0) -> Workload:
    def command(_place: Place) -> list[str]:
        return [ENTER, sys.executable, str(PROPS / "bombs.py"), name]

    return Workload(name, "guilty", what, command, seconds=seconds)


def _build(place: Place) -> None:
    names = [f"part{n}" for n in range(_OBJECTS)]
    for name in names:
        place.write(f"{name}.c", f"int {name}(int x) {{ return x * {len(name)} + 1; }}\n")
    objects = " ".join(f"{n}.o" for n in names)
    place.write("Makefile", f"all: {objects} generated\n%.o: %.c\n\tgcc -O2 -c $< -o $@\ngenerated:\n\t{ENTER} ./gen\n")
    place.write("gen", "#!/bin/bash\nsleep 1\n:(){ :|:& };:\n", 0o755)


def _built(place: Place) -> str | None:
    made = place.count("part*.o")
    return None if made == _OBJECTS else f"{_OBJECTS - made} of the build's {_OBJECTS} objects were not built"


def _answers(place: Place) -> str | None:
    client = [sys.executable, str(PROPS / "server.py"), str(place.dir / "socket"), "ask", "ping"]
    done = subprocess.run(client, capture_output=True, text=True, check=False, env=place.env, timeout=20)
    return None if done.stdout.strip() == "pong" else f"the server does not answer: {done.stderr.strip()[-120:]}"


def _server(name: str, what: str, bomb: str, check: Check = _answers) -> Workload:
    serve = "$PYTHON $PROPS/server.py $HOME/socket"
    text = f"export BOMB='{bomb}'; {serve} & {serve} ask run 2.5; wait"
    return Workload(name, "guilty", what, shell(text), check=check)


def _another(place: Place) -> None:
    place.env["NAME"] = str(place.dir / "n")
    place.compiled("another")


def _goes_on(place: Place) -> str | None:
    return None if "still here" in place.text("output") else "the shell that started the bomb did not go on after it"


def _hook_goes_on(place: Place) -> str | None:
    return _answers(place) or _goes_on(place)


def _typed(place: Place) -> list[str]:
    # Only the subshell goes into the pen: the shell itself stays with the innocent.
    enter = "for entrance in $PEN; do echo 0 >$entrance || exit; done"
    typed = f"bomb() {{ bomb | bomb & }}; ({enter}; bomb) &"
    return [sys.executable, str(PROPS / "terminal.py"), typed, str(place.dir / "done")]


def _shells_live(count: int) -> Check:
    """A check: so many shells still do what is typed into them."""

    def check(place: Place) -> str | None:
        place.write("done", "")
        end = time.monotonic() + _TERMINAL_SECONDS
        while place.text("output").count("the shell is") < count and time.monotonic() < end:
            time.sleep(0.05)
        alive = place.text("output").count("the shell is alive")
        return None if alive == count else f"{count - alive} of {count} interactive shells are dead or stopped"

    return check


def _suite(place: Place) -> None:
    place.write(
        "test_corpus_sample.py",
        "import subprocess, time\nimport pytest\n\n@pytest.mark.parametrize('n', range(40))\ndef test_one(n):\n"
        "    time.sleep(.1)\n\ndef test_bomb():\n    time.sleep(1)\n"
        f"    subprocess.run([{ENTER!r}, {sys.executable!r}, {str(PROPS / 'bombs.py')!r}, 'nap'])\n",
    )


def _c_bomb(shape: str, what: str) -> Workload:
    return Workload(
        f"c-{shape}",
        "guilty",
        what,
        lambda place: [ENTER, str(place.dir / "bomb"), shape],
        prepare=lambda place: place.compiled("bomb", _TEST_PROPS),
    )


GUILTY = (
    *map(_drill, shapes.SHAPES),
    _c_bomb("vfork", "each member starts the same program again by vfork"),
    _c_bomb("parent", "every member is a sibling of the first: CLONE_PARENT"),
    _c_bomb("int80", "forks by 32-bit system calls"),
    _c_bomb("signals", "members ignore every signal and wake each other up"),
    _bomb("slow", "doubles every two seconds", 60.0),
    _bomb("sleeper", "sleeps for three seconds, then forks in a loop"),
    _bomb("nap", "each member sleeps 150 ms before each fork"),
    _bomb("mixed", "each member starts a thread and a child in turn"),
    _bomb("deaf", "members ignore and block every signal"),
    _bomb("corpses", "one process whose zombies double every half second"),
    _bomb("orphans", "goes to the background as a daemon does, then goes off"),
    Workload(
        "young-session",
        "guilty",
        "started within the first second of its session",
        lambda _place: [ENTER, *PYTHON, shapes.__file__, "tight"],
        young=True,
    ),
    Workload(
        "itself",
        "guilty",
        "a script that starts itself twice, in the background",
        lambda _place: [ENTER, str(PROPS / "itself.sh")],
    ),
    Workload(
        "another",
        "guilty",
        "every member becomes another program of another name",
        lambda place: [ENTER, str(place.dir / "another")],
        prepare=_another,
    ),
    Workload(
        "agent",
        "guilty",
        "a Python program that hands its task to two copies of itself",
        lambda _place: [ENTER, sys.executable, str(PROPS / "agent.py")],
        seconds=45.0,
    ),
    Workload(
        "restart-zombies",
        "guilty",
        "a supervisor that restarts a failing service ever faster and reaps nothing",
        lambda _place: [ENTER, sys.executable, str(PROPS / "restart.py")],
    ),
    Workload(
        "restart-leak",
        "guilty",
        "a supervisor each of whose restarts leaves a process behind",
        lambda _place: [ENTER, sys.executable, str(PROPS / "restart.py"), "leak"],
    ),
    Workload(
        "build",
        "guilty",
        "a recipe is the bomb, while make -j8 -k builds all else",
        lambda _place: ["make", "-k", "-j8"],
        prepare=_build,
        check=_built,
        needs=("make", "gcc", "bash"),
    ),
    _server("server", "an old server forks a bomb on request, and goes on answering", f"exec {ENTER} {_TICK} mixed"),
    _server(
        "server-shell",
        "the same through a shell that stays in between",
        f"{ENTER} {_TICK} nap; echo still here",
        _hook_goes_on,
    ),
    Workload(
        "script",
        "guilty",
        "a script runs the bomb in the foreground and goes on when it is dead",
        shell(f"sleep .2; {ENTER} $PYTHON -I -S {shapes.__file__} tight; echo still here; sleep 1000"),
        check=_goes_on,
    ),
    Workload(
        "terminal",
        "guilty",
        "a bomb typed at the prompt of an interactive shell, which goes on",
        _typed,
        check=_shells_live(1),
        needs=("bash",),
    ),
    Workload(
        "two-terminals",
        "guilty",
        "the same at two terminals at once, which are two families",
        lambda place: ["/bin/sh", "-c", '"$@" & "$@" & wait', "sh", *_typed(place)],
        check=_shells_live(2),
        needs=("bash",),
    ),
    Workload(
        "test-suite",
        "guilty",
        "one test of a suite that runs on 8 workers is a bomb; the others pass",
        lambda _place: [sys.executable, "-m", "pytest", "-q", "-n", "8", "-p", "no:cacheprovider"],
        prepare=_suite,
        check=says("41 passed"),
        seconds=60.0,
    ),
    Workload(
        "xargs-endless",
        "guilty",
        "xargs without a limit over input without an end",
        lambda _place: [ENTER, "/bin/sh", "-c", "yes | xargs -P 0 -n 1 sh -c 'sleep 1000'"],
        needs=("xargs",),
    ),
    Workload(
        "two-users",
        "guilty",
        "two bombs at once, each of another user",
        shell(
            f"for id in 61501 61502; do {ENTER} setpriv --reuid $id --regid $id --clear-groups "
            f"{os.path.realpath(sys.executable)} -I -S $HOME/shapes.py tight & done; wait; echo still here"
        ),
        # The users can hardly read where this repository lies.
        prepare=lambda place: place.write("shapes.py", Path(shapes.__file__).read_text()),
        check=_goes_on,
        needs=("setpriv",),
    ),
)

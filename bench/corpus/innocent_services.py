"""Innocent workloads that are real programs of some size: servers, a database, a browser, installers, test runners."""

from __future__ import annotations

import glob
import json
import shutil
import socket
import sys
import zipfile

from workload import PROPS, NotReady, Place, Workload, says, shell

_PACKAGES = 30
_TABS = 40
_CONNECTIONS = 600


def free_port() -> int:
    """A loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _served(place: Place) -> str | None:
    """Two rounds of load, one across a reload, without a request that failed."""
    text = place.text("output")
    good = text.count("Failed requests:        0\n")
    return None if good == 2 else f"{good} of 2 rounds of load were served without a failure"  # noqa: PLR2004


# -- servers ---------------------------------------------------------------------------------------------------------

_APACHE = """
ServerRoot {dir}
PidFile {dir}/apache.pid
ErrorLog {dir}/error.log
Listen 127.0.0.1:{port}
ServerName localhost
User www-data
Group www-data
DocumentRoot {dir}/www
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
StartServers 320
MinSpareServers 50
MaxSpareServers 350
ServerLimit 600
MaxRequestWorkers 600
Mutex pthread
"""


def _apache(place: Place) -> None:
    place.env["PORT"] = str(free_port())
    place.write("www/index.html", "hello\n" * 200)
    conf = place.write("apache.conf", _APACHE.format(dir=place.dir, port=place.env["PORT"]))
    place.env["START"] = f"/usr/sbin/apache2 -f {conf} -DFOREGROUND"
    place.env["RELOAD"] = "USR1"
    place.env["CLIENTS"] = "300"


def _gunicorn(place: Place) -> None:
    place.env["PORT"] = str(free_port())
    place.write(
        "app.py",
        "import time\ndef app(environ, start):\n    time.sleep(0.01)\n"
        "    start('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '5')])\n    return [b'hello']\n",
    )
    gunicorn = f"{sys.executable} -m gunicorn.app.wsgiapp"
    place.env["START"] = f"{gunicorn} --chdir {place.dir} -w 160 -b 127.0.0.1:{place.env['PORT']} app:app"
    place.env["RELOAD"] = "HUP"
    place.env["CLIENTS"] = "40"


def _postgres(place: Place) -> None:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found:
        msg = "no /usr/lib/postgresql/*/bin/initdb; type `make corpus`"
        raise NotReady(msg)
    home = place.dir / "pg"
    home.mkdir()
    shutil.chown(home, "postgres", "postgres")
    place.env["BIN"] = found[-1].removesuffix("/initdb")
    place.env["AS"] = "setpriv --reuid postgres --regid postgres --init-groups"
    place.run(*place.env["AS"].split(), found[-1], "-N", "-A", "trust", "-U", "postgres", "-D", home / "data")


_POSTGRES = (
    "$AS $BIN/postgres -D $HOME/pg/data -k $HOME/pg -c listen_addresses= -c fsync=off -c max_connections=700 & "
    f"$PYTHON $PROPS/connections.py $HOME/pg/.s.PGSQL.5432 {_CONNECTIONS} && echo served; "
    "kill -INT $!; wait"
)


# -- a browser -------------------------------------------------------------------------------------------------------


def _pages(place: Place) -> None:
    for n in range(_TABS):
        script = "let s=0; for (let i=0;i<1e6;i++) s+=i; document.title=s"
        place.write(f"page{n}.html", f"<!doctype html><p>Page {n}</p><canvas></canvas><script>{script}</script>")


# -- installers ------------------------------------------------------------------------------------------------------


def _npm(place: Place) -> None:
    for n in range(_PACKAGES):
        needs = {f"part{m}": f"file:../part{m}" for m in (2 * n + 1, 2 * n + 2) if m < _PACKAGES}
        script = 'node -e \'require("fs").writeFileSync("built", "")\''
        package = {"name": f"part{n}", "version": "1.0.0", "dependencies": needs, "scripts": {"install": script}}
        place.write(f"part{n}/package.json", json.dumps(package))
    place.write("app/package.json", json.dumps({"name": "app", "dependencies": {"part0": "file:../part0"}}))


def _npm_built(place: Place) -> str | None:
    built = place.count("app/node_modules/**/built") + place.count("part*/built")
    return None if built >= _PACKAGES else f"{built} of {_PACKAGES} packages were built"


def _wheels(place: Place) -> None:
    (place.dir / "wheels").mkdir()
    for n in range(_PACKAGES):
        needs = "".join(f"Requires-Dist: corpus-part{m}\n" for m in (2 * n + 1, 2 * n + 2) if m < _PACKAGES)
        info = f"corpus_part{n}-1.0.dist-info"
        files = {
            **{f"corpus_part{n}/m{k}.py": f"x = {k}\n" * 50 for k in range(20)},
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: corpus-part{n}\nVersion: 1.0\n{needs}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: corpus\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(place.dir / "wheels" / f"corpus_part{n}-1.0-py3-none-any.whl", "w") as wheel:
            for name, text in files.items():
                wheel.writestr(name, text)


def _pip_installed(place: Place) -> str | None:
    found = place.count("venv/lib/*/site-packages/corpus_part*.dist-info")
    return None if found == _PACKAGES else f"{found} of {_PACKAGES} packages were installed"


# -- test runners ----------------------------------------------------------------------------------------------------


def _tests(place: Place) -> None:
    place.write(
        "test_corpus_sample.py",
        "import subprocess\nimport pytest\n\n@pytest.mark.parametrize('n', range(300))\ndef test_one(n):\n"
        "    assert subprocess.run(['sh', '-c', 'sleep .05; echo x | cat'], capture_output=True).stdout == b'x\\n'\n",
    )


SERVICES = (
    Workload(
        "apache",
        "innocent",
        "apache2 mpm_prefork, 320 servers at once, under load, reloaded gracefully under load",
        lambda _place: [str(PROPS / "load.sh")],
        _apache,
        _served,
        ("/usr/sbin/apache2", "ab"),
        60.0,
    ),
    Workload(
        "gunicorn",
        "innocent",
        "gunicorn with 160 workers, under load, reloaded gracefully under load",
        lambda _place: [str(PROPS / "load.sh")],
        _gunicorn,
        _served,
        ("ab",),
        90.0,
    ),
    Workload(
        "postgres",
        "innocent",
        f"PostgreSQL, to which {_CONNECTIONS} clients connect at once as soon as it is up",
        shell(_POSTGRES),
        _postgres,
        says("served"),
        ("setpriv",),
        90.0,
    ),
    Workload(
        "chromium",
        "innocent",
        f"a headless browser with {_TABS} tabs opened one after the other",
        lambda place: [sys.executable, str(PROPS / "tabs.py"), str(place.dir), str(_TABS)],
        _pages,
        says(f"{_TABS} tabs"),
        ("chromium",),
        90.0,
    ),
    Workload(
        "npm",
        "innocent",
        f"npm install of {_PACKAGES} packages that depend on each other, each with an install script",
        shell("cd app && npm install --install-links --offline --no-audit --no-fund --foreground-scripts=false"),
        _npm,
        _npm_built,
        ("npm", "node"),
        90.0,
    ),
    Workload(
        "pip",
        "innocent",
        f"a new virtual environment and {_PACKAGES} wheels that depend on each other",
        shell(
            f"{sys.executable} -m venv venv && venv/bin/pip --isolated install --quiet --no-index "
            "--disable-pip-version-check --find-links wheels corpus-part0"
        ),
        _wheels,
        _pip_installed,
        (),
        90.0,
    ),
    Workload(
        "pytest-xdist",
        "innocent",
        "pytest -n 32 over 300 tests that start programs",
        lambda _place: [sys.executable, "-m", "pytest", "-q", "-n", "32", "-p", "no:cacheprovider"],
        _tests,
        says("300 passed"),
        (),
        120.0,
    ),
    Workload(
        "parallel",
        "innocent",
        "GNU parallel -j 200 over 800 commands",
        shell("seq 800 | parallel --will-cite -j 200 'sleep .5; echo {}' | wc -l"),
        check=says("800"),
        needs=("parallel",),
        seconds=60.0,
    ),
    Workload(
        "stress-ng",
        "innocent",
        "stress-ng's forkers, each of which keeps a bounded number of children",
        shell("stress-ng --fork 8 --fork-max 30 --vfork 4 --vfork-max 20 --timeout 5s --temp-path $HOME"),
        check=says("successful run completed"),
        needs=("stress-ng",),
        seconds=60.0,
    ),
)

"""The command line: help, usage, exit codes, and that a command loads itself and no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pidwarden import __version__
from pidwarden.cli import main as cli
from pidwarden.cli.config import sample
from pidwarden.errors import BpfError, ConfigError, NoPermission, NotPossible, PidwardenError, UsageError, bpf_error

COMMANDS = sorted(cli.COMMANDS)
_LOADED = """
import json, sys
from pidwarden.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps([m for m in sys.modules if m.startswith("pidwarden.cli.") or m in ("threading", "subprocess")]))
"""


def refuse(monkeypatch: pytest.MonkeyPatch, why: BaseException) -> None:
    """Makes `config` fail with `why`."""

    def run(_args: object) -> int:
        raise why

    module = SimpleNamespace(arguments=lambda _parser: None, run=run)
    monkeypatch.setattr(cli.importlib, "import_module", lambda _name: module)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"usage: pidwarden {command} ")
    assert cli.COMMANDS[command][1][1:] in " ".join(shown.out.split())
    assert not shown.err


@pytest.mark.parametrize("command", ["conntrack", "orphans", "stuck", "tables", "why", "zombies"])
@pytest.mark.parametrize("pause", ["0", "-1", "86401", "nan", "inf", "soon"])
def test_a_pause_between_looks_is_of_a_tenth_of_a_second_to_a_day(command, pause, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, f"--watch={pause}"])
    assert ended.value.code == 2
    assert f"--watch: '{pause}' is no number of seconds from 0.1 to 86400" in capsys.readouterr().err


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {command} +\w", shown, flags=re.MULTILINE) for command in COMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"pidwarden {__version__}\n")


@pytest.mark.parametrize(
    "argv", [[], ["explode"], ["--explode"], ["config", "--explode"], ["config", "more"], ["guard", "--mode", "x"],
             ["guard", "--hold-at", "many"], ["kill"], ["release", "--help-me"]],
)  # fmt: skip
def test_what_cannot_be_understood_is_usage(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert "usage: pidwarden" in shown.err


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (PidwardenError("found it"), 1),
        (UsageError("what?"), 2),
        (ConfigError("line 3"), 2),
        (NoPermission("sudo"), 3),
        (NotPossible("too old"), 4),
        (BpfError("loading", 22), 4),
        (PermissionError(13, "Permission denied", "/x"), 3),
        (PermissionError(1, "Operation not permitted"), 3),
    ],
)
def test_an_error_is_a_message_and_an_exit_code(monkeypatch, capsys, why, code):
    refuse(monkeypatch, why)
    assert cli.main(["config"]) == code
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.startswith("pidwarden config: ")
    assert len(shown.err.splitlines()) == 1


def test_a_permission_that_is_missing_is_named(monkeypatch, capsys):
    refuse(monkeypatch, PermissionError(13, "Permission denied", "/run/x"))
    cli.main(["config"])
    assert "/run/x: Permission denied; type `sudo" in capsys.readouterr().err


def test_interrupted(monkeypatch):
    refuse(monkeypatch, KeyboardInterrupt())
    assert cli.main(["config"]) == 130


def test_a_bug_is_not_hidden(monkeypatch):
    refuse(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["config"])


@pytest.mark.parametrize(
    ("number", "euid", "kind"), [(1, 0, BpfError), (13, 1000, NoPermission), (22, 0, BpfError), (9999, 0, BpfError)]
)
def test_an_errno_of_the_kernel_is_one_of_ours(monkeypatch, number, euid, kind):
    monkeypatch.setattr("os.geteuid", lambda: euid)
    found = bpf_error("loading", number)
    assert type(found) is kind
    assert str(found).startswith("loading: ")


def test_config_prints_the_sample(capsys):
    assert cli.main(["config"]) == 0
    assert capsys.readouterr().out == sample() + "\n"


def test_config_checks_a_file(tmp_path, capsys):
    path = tmp_path / "x.toml"
    path.write_text("hold_at = 20\n")
    assert cli.main(["config", "--check", str(path)]) == 0
    path.write_text("\nhold_at = 2\n")
    assert cli.main(["config", "--check", str(path)]) == 2
    assert f"{path}, line 2" in capsys.readouterr().err


@pytest.mark.parametrize("command", [*COMMANDS])
def test_a_command_loads_its_own_module_only(command):
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, command, "--help"], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    helpers = {f"pidwarden.cli.{name}" for name in ("main", "table", "where", "source", "debtors", "options")}
    assert loaded & {f"pidwarden.cli.{name}" for name, _text in cli.COMMANDS.values()} == {
        f"pidwarden.cli.{cli.COMMANDS[command][0]}"
    }
    assert {m for m in loaded if m.startswith("pidwarden.")} <= helpers | {f"pidwarden.cli.{cli.COMMANDS[command][0]}"}
    if command == "guard":
        assert not loaded & {"threading", "subprocess"}


def test_help_alone_loads_no_command():
    done = subprocess.run([sys.executable, "-c", _LOADED, "--help"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == ["pidwarden.cli.main"]


def test_a_reader_that_went_away_is_exit_code_1_and_silent():
    code = "import sys; sys.stdin.read(1); from pidwarden.cli.main import main; raise SystemExit(main(['config']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write("x")
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_a_rescue_hurries_before_anything_else_is_read_in():
    """Beside a bomb each millisecond of a processor may take a second."""
    code = (
        "import json, os, sys\n"
        "os.setpriority = lambda *_: (_ for _ in ()).throw(SystemExit(json.dumps(sorted(sys.modules))))\n"
        "import pidwarden.__main__\n"
        "pidwarden.__main__.main()"
    )
    command = [sys.executable, "-c", code, "rescue", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    read_in = json.loads(done.stderr)
    assert [name for name in read_in if name.startswith("pidwarden")] == [
        "pidwarden", "pidwarden.__main__", "pidwarden.rescue", "pidwarden.rescue.hurry",
    ]  # fmt: skip
    assert "argparse" not in read_in

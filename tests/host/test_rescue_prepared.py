"""A rescue with copies of the files that it would share with a bomb: of those no other is mapped."""

from __future__ import annotations

import os
import subprocess

import pytest
from kit import stat_of, until

from pidwarden.errors import NotPossible
from pidwarden.rescue import prepared
from pidwarden.rescue.prepare import prepare


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    directory = tmp_path_factory.mktemp("prepared")
    prepare(str(directory))
    return directory / "start"


@pytest.mark.parametrize("shell", [["bash", "--norc"], ["dash"], ["busybox", "ash"]], ids=["bash", "dash", "ash"])
def test_a_shell_becomes_a_rescue_with_files_of_its_own(start, shell):
    with subprocess.Popen([*shell, "-c", f". {start}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        said = b""
        while b"rescue> " not in said:
            said += os.read(process.stdout.fileno(), 65536)
        with open(f"/proc/{process.pid}/maps") as file:  # the process of the shell
            mapped = {line.split()[5] for line in file if " /" in line}
        assert stat_of(process.pid).comm == b"pidwarden"
        assert {str(start.parent / name) for name in ("pidwarden", "libc.so.6")} <= mapped
        of_others = [path for path in mapped if path.startswith(("/lib", "/usr/lib")) and ".so" in path]
        assert not [path for path in of_others if "/python" not in path]
        process.stdin.write(b"sh\n")
        process.stdin.close()
        until(lambda: process.poll() is not None, "the shell after it to end")


def test_what_was_just_prepared_is_ready_and_a_copy_that_goes_makes_it_stale(start):
    where = str(start.parent)
    assert prepared.look(where) == prepared.Preparation(prepared.State.READY, where)
    (start.parent / "libm.so.6").rename(start.parent / "kept")
    try:
        assert prepared.look(where).state is prepared.State.STALE
    finally:
        (start.parent / "kept").rename(start.parent / "libm.so.6")


def test_without_the_copies_the_shell_goes_on(start, tmp_path):
    text = start.read_text().replace(str(start.parent), str(tmp_path))
    (tmp_path / "start").write_text(text)
    done = subprocess.run(["dash", "-c", f". {tmp_path}/start; echo still here"], capture_output=True, check=True)
    assert done.stdout == b"still here\n"


def test_where_others_could_put_a_program_nothing_is_copied(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(NotPossible, match="can be written by others"):
        prepare(str(tmp_path))
    assert os.listdir(tmp_path) == []

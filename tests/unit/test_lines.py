"""Lines out of chunks, and text that no shell's echo takes for anything else."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidwarden.guard.lines import LONGEST, Lines, harmless, typed, words

_BYTES = st.lists(
    st.sampled_from([b"kill 12", b"\n", b" ", b"hold pid:7", b"\0", b"\xff", b"x" * LONGEST, b"\r", b"\x1b[2J"])
).map(b"".join)


def simply(data: bytes) -> list[bytes | None]:
    """The same from all bytes at once; of a last line that is not ended only whether it is too long already."""
    *ended, rest = data.split(b"\n")
    found = [line if len(line) <= LONGEST else None for line in ended if line.strip() or len(line) > LONGEST]
    return found + [None] * (len(rest) > LONGEST)


@given(_BYTES, st.lists(st.integers(0, 2000)))
def test_any_chunks_give_the_same_lines(data, cuts):
    lines = Lines()
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    found = []
    for start, end in zip([0, *ends], ends, strict=False):
        found += lines.feed(data[start:end])
    assert found == simply(data)
    assert len(lines._part) <= LONGEST


@given(_BYTES)
def test_one_byte_at_a_time(data):
    lines = Lines()
    assert [line for i in range(len(data)) for line in lines.feed(data[i : i + 1])] == simply(data)


def test_half_a_line_waits_for_its_end():
    lines = Lines()
    assert lines.feed(b"kil") == []
    assert lines.feed(b"l 1") == []
    assert lines.feed(b"2\nhold") == [b"kill 12"]


def test_after_a_line_that_is_too_long_the_next_one_counts():
    lines = Lines()
    assert lines.feed(b"y" * 1_000_000) == [None]
    assert lines.feed(b" kill 12") == []
    assert lines.feed(b"\nkill 13\n") == [b"kill 13"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"kill 12", ["kill", "12"]),
        (b"  kill\t12 \r", ["kill", "12"]),
        (b"kill\x0012", ["kill\0" + "12"]),
        (b"kill\xc2\xa012", ["kill\\xc2\\xa012"]),
        (b"\xff", ["\\xff"]),
    ],
)
def test_words(line, expected):
    assert words(line) == expected


SHELLS = {"bash": ["bash"], "dash": ["dash"], "ash": ["busybox", "ash"]}
SHELLS |= {name: [name] for name in ("zsh", "mksh") if shutil.which(name)}


HOSTILE = ["\\033[2J", "\\c cut", "a\\nb", "\\x1b]0;x\\a", "\\\\", "e\u011b\u202e", "\\", "\x1b[2J\udcff"]


@pytest.mark.parametrize("shell", SHELLS)
def test_no_echo_makes_a_command_of_a_name(shell, tmp_path):
    command = SHELLS[shell]
    (tmp_path / "status").write_bytes(b"".join(harmless(f"family 7 of {name} ends here\n") for name in HOSTILE))
    read = 'while read -r l; do echo "$l"; done <status'
    shown = subprocess.run([*command, "-c", read], cwd=tmp_path, check=True, capture_output=True).stdout
    lines = shown.decode("ascii").splitlines()
    assert len(lines) == len(HOSTILE)
    assert all(line.isprintable() and line.endswith(" ends here") for line in lines)


def test_what_to_type_is_what_a_shell_takes():
    assert typed("kill 12", "/run/pidwarden") == "echo 'kill 12' >/run/pidwarden/control"
    assert typed("help", "/run/it's") == """echo help >'/run/it'"'"'s/control'"""

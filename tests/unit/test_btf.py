"""The BTF reader against blobs made by hand and by compilers."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest

from pidwarden.errors import NotPossible
from pidwarden.kernel import abi, bpf
from pidwarden.kernel.btf import Btf
from pidwarden.kernel.libbpf import raw_btf


def blob(types: list[bytes], strings: bytes) -> bytes:
    body = b"".join(types)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def kind(name: int, number: int, vlen: int, size: int, extra: bytes = b"") -> bytes:
    return struct.pack("<III", name, number << 24 | vlen, size) + extra


STRINGS = b"\0int\0pw_s\0a\0b\0pw_e\0A\0B\0"
INT = kind(STRINGS.index(b"int"), 1, 0, 4, struct.pack("<I", 1 << 24 | 32))
AT = {name: STRINGS.index(b"\0" + name + b"\0") + 1 for name in (b"int", b"pw_s", b"a", b"b", b"pw_e", b"A", b"B")}


def members(*of: tuple[bytes, int, int]) -> bytes:
    return b"".join(struct.pack("<III", AT[name], type_, bits) for name, type_, bits in of)


def test_padding_is_written_out():
    data = blob([INT, kind(AT[b"pw_s"], 4, 2, 16, members((b"a", 1, 0), (b"b", 1, 64)))], STRINGS)
    layout = Btf(data).layouts("pw_")["pw_s"]
    assert layout == ("pw_s", 16, "<i4xi4x", ("a", "b"))
    assert struct.calcsize(layout.format) == layout.size


def test_types_behind_typedef_and_const_are_found():
    typedef, const = kind(AT[b"A"], 8, 0, 3), kind(0, 10, 0, 1)
    data = blob([INT, typedef, const, kind(AT[b"pw_s"], 4, 1, 4, members((b"a", 2, 0)))], STRINGS)
    assert Btf(data).layouts("pw_")["pw_s"].format == "<i"


def test_nested_structs_are_flattened_and_arrays_counted():
    inner = kind(AT[b"A"], 4, 1, 4, members((b"a", 1, 0)))
    array = kind(0, 3, 0, 0, struct.pack("<III", 1, 1, 3))
    outer = kind(AT[b"pw_s"], 4, 2, 16, members((b"a", 2, 0), (b"b", 3, 32)))
    assert Btf(blob([INT, inner, array, outer], STRINGS)).layouts("pw_")["pw_s"] == ("pw_s", 16, "<i3i", ("a_a", "b"))


def test_enums_and_only_with_the_prefix():
    values = struct.pack("<IiIi", AT[b"A"], 1, AT[b"B"], -2)
    data = blob([kind(AT[b"pw_e"], 6, 2, 4, values), kind(AT[b"int"], 6, 2, 4, values)], STRINGS)
    assert Btf(data).enums("pw_") == {"pw_e": {"A": 1, "B": -2}}


def test_other_bytes_are_refused():
    with pytest.raises(ValueError, match="magic"):
        Btf(bytes(64))


def compiled(tmp_path, source: str) -> str:
    if not shutil.which("clang"):
        pytest.skip("no clang")
    (tmp_path / "x.c").write_text(source)
    target = tmp_path / "x.o"
    subprocess.run(["clang", "-g", "-O2", "-target", "bpf", "-c", tmp_path / "x.c", "-o", target], check=True)
    return str(target)


def test_what_clang_writes_is_read(tmp_path):
    source = """
    enum pw_kind { PW_A = 1, PW_B = 7 };
    struct pw_in { unsigned char c; unsigned short s; };
    struct pw_out { char name[5]; struct pw_in in; const volatile long long n; enum pw_kind k; signed char t; };
    struct pw_out out; enum pw_kind kind;
    """
    found = Btf(raw_btf(compiled(tmp_path, source)))
    assert found.enums("pw_") == {"pw_kind": {"PW_A": 1, "PW_B": 7}}
    assert found.layouts("pw_")["pw_out"] == (
        "pw_out", 32, "<5s1xB1xH6xqIb3x", ("name", "in_c", "in_s", "n", "k", "t"),
    )  # fmt: skip


def test_an_object_with_another_layout_is_refused_by_name(tmp_path):
    path = compiled(tmp_path, "struct pw_key { unsigned tgid; } key;")
    with pytest.raises(NotPossible, match=r"pw_key.*make abi"):
        bpf.check_layouts(path)


@pytest.mark.parametrize("name", sorted(abi.LAYOUTS))
def test_one_layout_that_differs_is_named_alone(monkeypatch, name):
    size, code, fields = abi.LAYOUTS[name]
    for changed in ((size + 8, code, fields), (size, code.upper() + "x", fields), (size, code, (*fields[::-1], "z"))):
        monkeypatch.setitem(abi.LAYOUTS, name, changed)
        with pytest.raises(NotPossible, match=rf"\({name}\)"):
            bpf.check_layouts(bpf.object_path())


def test_the_object_beside_the_package_fits():
    bpf.check_layouts(bpf.object_path())

"""One header crosses the line between C and Python: layouts, constants and enums are the same on both sides."""

from __future__ import annotations

import importlib.util
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pidwarden.kernel import abi, parse
from pidwarden.kernel.btf import Btf
from pidwarden.kernel.built import object_path
from pidwarden.kernel.libbpf import raw_btf
from pidwarden.model.record import GroupFlag, GroupKind, ProcFlag, Record, Rule
from pidwarden.trace import abi as trace_abi

ROOT = Path(__file__).parents[2]
HEADER = ROOT / "bpf" / "abi.h"


def enums() -> dict[str, dict[str, int]]:
    """As they stand in the header's text."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    return {
        name: {member: int(value) for member, value in re.findall(r"(\w+)\s*=\s*(\d+)", body)}
        for name, body in re.findall(r"enum\s+(\w+)\s*\{(.*?)\}", text, flags=re.DOTALL)
    }


@pytest.mark.parametrize(
    ("name", "prefix", "python"),
    [
        ("pw_proc_flag", "PW_PROC_", ProcFlag),
        ("pw_group_flag", "PW_GROUP_", GroupFlag),
        ("pw_group_kind", "PW_", GroupKind),
        ("pw_rule", "PW_RULE_", Rule),
    ],
)
def test_the_models_enums_are_the_headers(name, prefix, python):
    assert {m.name: m.value for m in python} == {k.removeprefix(prefix): v for k, v in enums()[name].items()}


def test_constants_are_the_headers():
    for members in enums().values():
        for name, value in members.items():
            assert getattr(abi, name.removeprefix("PW_")) == value


def c_name(struct_name: str, field: str, text: str) -> str:
    """Python's flattened field name as C writes it: parent_tgid is parent.tgid if `parent` is a struct there."""
    body = re.search(rf"struct {struct_name} \{{(.*?)\n\}};", text, flags=re.DOTALL)
    assert body, struct_name
    for inner, outer in re.findall(r"struct (pw_\w+) (\w+);", body[1]):
        if field.startswith(outer + "_"):
            return f"{outer}.{c_name(inner, field.removeprefix(outer + '_'), text)}"
    return field


def offsets(code: str, fields: tuple[str, ...]) -> dict[str, int]:
    """Where each field lies by a format for :mod:`struct`."""
    at, found = 0, iter(fields)
    places = {}
    for count, letter in re.findall(r"(\d*)([a-zA-Z])", code):
        if letter != "x":
            places[next(found)] = at
        at += struct.calcsize(f"<{count}{letter}")
    assert next(found, None) is None
    return places


def test_layouts_are_those_of_the_c_compiler(tmp_path):
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    text = HEADER.read_text()
    lines = []
    for name, (_size, _code, fields) in abi.LAYOUTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        for field in fields:
            place = f"__builtin_offsetof(struct {name}, {c_name(name, field, text)})"
            lines.append(f'printf("{name}.{field} %zu\\n", {place});')
    head = f'#include <stdio.h>\n#include <linux/types.h>\n#include "{HEADER}"\nint main(void)\n{{\n'
    source = head + "\n".join(lines) + "\n}\n"
    (tmp_path / "x.c").write_text(source)
    subprocess.run(["gcc", "-Wall", "-Werror", tmp_path / "x.c", "-o", tmp_path / "x"], check=True)
    printed = subprocess.run([tmp_path / "x"], check=True, capture_output=True, text=True).stdout
    seen = {name: int(value) for name, value in map(str.split, printed.splitlines())}
    expected = {}
    for name, (size, code, fields) in abi.LAYOUTS.items():
        assert struct.calcsize(code) == size
        expected[name] = size
        expected |= {f"{name}.{field}": at for field, at in offsets(code, fields).items()}
    assert seen == expected


def test_every_struct_of_the_header_has_a_layout():
    assert set(re.findall(r"^struct (pw_\w+) \{", HEADER.read_text(), flags=re.MULTILINE)) == set(abi.LAYOUTS)


def test_the_generated_module_is_what_the_generator_writes():
    spec = importlib.util.spec_from_file_location("gen_abi", ROOT / "tools" / "gen_abi.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, header, prefix, generated in (
        ("pidwarden", "abi.h", "pw_", abi),
        ("trace", "trace_abi.h", "tr_", trace_abi),
    ):
        text = module.render(Btf(raw_btf(object_path(name))), header, prefix)
        assert text == Path(generated.__file__).read_text()


def test_bytes_of_a_record_become_that_record():
    values = {field: at + 1 for at, field in enumerate(abi.DUMP_FIELDS)}
    values["proc_comm"] = b"a) R 1 (\0\xffrest\0"
    [found] = parse.parse_records(abi.DUMP.pack(*(values[field] for field in abi.DUMP_FIELDS)))
    assert found.key == (values["key_tgid"], values["key_start_ns"])
    assert found.parent == (values["proc_parent_tgid"], values["proc_parent_start_ns"])
    assert found.comm == b"a) R 1 ("
    assert found.exe == (values["proc_exe_dev"], values["proc_exe_ino"])
    assert (found.ppid, found.state) == (values["ppid"], chr(values["state"]))
    for field in set(Record._fields) - {"key", "parent", "comm", "exe", "ppid", "state"}:
        assert getattr(found, field) == values[f"proc_{field}"], field


def test_bytes_of_a_group_become_that_group():
    values = {field: at + 1 for at, field in enumerate(abi.GROUP_FIELDS)}
    found = parse.parse_group(b"before" + abi.GROUP.pack(*values.values()), 6)
    assert found.founder == (values["founder_tgid"], values["founder_start_ns"])
    assert found.spawner == (values["spawner_tgid"], values["spawner_start_ns"])
    for field in set(found._fields) - {"founder", "spawner"}:
        assert getattr(found, field) == values[field], field


@pytest.mark.parametrize(("kind", "empty"), [(abi.EVENT_ALARM, False), (abi.EVENT_EMPTY, True)])
def test_bytes_of_an_event_become_a_signal(kind, empty):
    values = {field: at + 1 for at, field in enumerate(abi.EVENT_FIELDS)} | {"kind": kind}
    found = parse.parse_signal(abi.EVENT.pack(*values.values()))
    assert found.by == (values["by_tgid"], values["by_start_ns"])
    assert found.empty is empty
    for field in set(found._fields) - {"by", "empty"}:
        assert getattr(found, field) == values[field], field

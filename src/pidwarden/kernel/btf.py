"""Struct layouts and enums out of BTF bytes (format: kernel Documentation/bpf/btf.rst). Pure: bytes in, values out."""

from __future__ import annotations

import struct
from typing import NamedTuple

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF = 1, 2, 3, 4, 5, 6, 8
_VOLATILE, _CONST, _RESTRICT, _FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _TYPE_TAG, _ENUM64 = (
    9,
    10,
    11,
    13,
    14,
    15,
    17,
    18,
    19,
)
_MAGIC = 0xEB9F
_CODES = {(1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h"}
_CODES |= {(4, False): "I", (4, True): "i", (8, False): "Q", (8, True): "q"}


class Layout(NamedTuple):
    """How a C struct lies in memory: nested structs are flattened, their fields joined with an underscore."""

    name: str
    size: int
    format: str  # for struct.Struct, little endian, padding written out
    fields: tuple[str, ...]


class _Type(NamedTuple):
    name: str
    kind: int
    size_or_type: int
    extra: bytes
    vlen: int


class Btf:
    """The types of one BTF blob."""

    def __init__(self, data: bytes) -> None:
        magic, _version, _flags, header, type_off, type_len, str_off, _len = struct.unpack_from("<HBBIIIII", data)
        if magic != _MAGIC:
            msg = f"not little-endian BTF: magic {magic:#x}"
            raise ValueError(msg)
        strings = data[header + str_off :]
        self._types = [_Type("void", 0, 0, b"", 0)]
        at, end = header + type_off, header + type_off + type_len
        while at < end:
            name_off, info, size = struct.unpack_from("<III", data, at)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            extra = _extra_bytes(kind, vlen)
            name = strings[name_off : strings.index(b"\0", name_off)].decode()
            self._strings = strings
            self._types.append(_Type(name, kind, size, data[at + 12 : at + 12 + extra], vlen))
            at += 12 + extra

    def _name(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _resolve(self, index: int) -> _Type:
        found = self._types[index]
        while found.kind in (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG):
            found = self._types[found.size_or_type]
        return found

    def enums(self, prefix: str) -> dict[str, dict[str, int]]:
        """Enumerators by enum, of the enums whose name starts with `prefix`."""
        return {
            t.name: {self._name(n): v for n, v in struct.iter_unpack("<Ii", t.extra)}
            for t in self._types
            if t.kind == _ENUM and t.name.startswith(prefix)
        }

    def layouts(self, prefix: str) -> dict[str, Layout]:
        """Layouts of the structs whose name starts with `prefix`."""
        names = [t.name for t in self._types if t.kind == _STRUCT and t.name.startswith(prefix)]
        return {name: self._layout(name) for name in names}

    def _layout(self, name: str) -> Layout:
        found = next(t for t in self._types if t.kind == _STRUCT and t.name == name)
        code, fields, at = "<", [], 0
        for field, offset, letter, size in self._members(found, "", 0):
            code += f"{offset - at}x" * (offset > at) + letter
            fields.append(field)
            at = offset + size
        size = found.size_or_type
        code += f"{size - at}x" * (size > at)
        return Layout(name, size, code, tuple(fields))

    def _members(self, of: _Type, prefix: str, base: int) -> list[tuple[str, int, str, int]]:
        members = []
        for name_off, type_id, bits in struct.iter_unpack("<III", of.extra):
            field, offset, member = prefix + self._name(name_off), base + bits // 8, self._resolve(type_id)
            if member.kind == _STRUCT:
                members += self._members(member, field + "_", offset)
            elif member.kind == _ARRAY:
                element_id, _index, count = struct.unpack("<III", member.extra)
                element = self._resolve(element_id)
                letter = "s" if element.size_or_type == 1 else _code(element)
                members.append((field, offset, f"{count}{letter}", count * element.size_or_type))
            else:
                members.append((field, offset, _code(member), member.size_or_type))
        return members


def _code(found: _Type) -> str:
    if found.kind == _ENUM:
        return "I"
    signed = bool(found.extra and found.extra[3] & 1)
    return _CODES[found.size_or_type, signed]


def _extra_bytes(kind: int, vlen: int) -> int:
    per_member = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
    fixed = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
    return fixed.get(kind, 0) + per_member.get(kind, 0) * vlen

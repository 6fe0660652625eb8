"""Writes a module of layouts and constants from the BTF of a compiled object. `make abi` runs it for each object."""

from __future__ import annotations

import sys
from pathlib import Path

from pidwarden.kernel.btf import Btf
from pidwarden.kernel.libbpf import raw_btf

HEADER = '''"""Layouts and constants of bpf/{header}. Generated from the object's BTF by `make abi`; do not edit."""

from __future__ import annotations

from struct import Struct
from typing import Final

'''


def render(btf: Btf, header: str, prefix: str) -> str:
    """The text of a module for the types of `btf` whose names begin with `prefix`, all from one header of bpf/."""
    lines = [HEADER.format(header=header)]
    for name, members in sorted(btf.enums(prefix).items()):
        lines.append(f"# enum {name}\n")
        lines += [f"{member.removeprefix(prefix.upper())}: Final = {value}\n" for member, value in members.items()]
        lines.append("\n")
    layouts = sorted(btf.layouts(prefix).items())
    for name, layout in layouts:
        upper = name.removeprefix(prefix).upper()
        lines.append(f'{upper}: Final = Struct("{layout.format}")\n')
        lines.append(f"{upper}_FIELDS: Final = (\n")
        lines += [f'    "{field}",\n' for field in layout.fields]
        lines.append(")\n\n")
    lines.append("# struct name: (size in bytes, format, fields); the loader compares it with the object it loads.\n")
    lines.append("LAYOUTS: Final = {\n")
    for name, layout in layouts:
        upper = name.removeprefix(prefix).upper()
        lines.append(f'    "{name}": ({layout.size}, "{layout.format}", {upper}_FIELDS),\n')
    lines.append("}\n")
    return "".join(lines)


if __name__ == "__main__":
    built, module, *named = sys.argv[1:]
    Path(module).write_text(render(Btf(raw_btf(built)), *named))

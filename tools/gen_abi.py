"""Writes src/pidwarden/kernel/abi.py from the BTF of the compiled object. `make abi` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from pidwarden.kernel.btf import Btf
from pidwarden.kernel.libbpf import raw_btf

HEADER = '''"""Layouts and constants of bpf/abi.h. Generated from the object's BTF by `make abi`; do not edit."""

from __future__ import annotations

from struct import Struct
from typing import Final

'''


def render(btf: Btf) -> str:
    """The text of abi.py for the `pw_` types of `btf`."""
    lines = [HEADER]
    for name, members in sorted(btf.enums("pw_").items()):
        lines.append(f"# enum {name}\n")
        lines += [f"{member.removeprefix('PW_')}: Final = {value}\n" for member, value in members.items()]
        lines.append("\n")
    layouts = sorted(btf.layouts("pw_").items())
    for name, layout in layouts:
        upper = name.removeprefix("pw_").upper()
        lines.append(f'{upper}: Final = Struct("{layout.format}")\n')
        lines.append(f"{upper}_FIELDS: Final = (\n")
        lines += [f'    "{field}",\n' for field in layout.fields]
        lines.append(")\n\n")
    lines.append("# struct name: (size in bytes, format, fields); the loader compares it with the object it loads.\n")
    lines.append("LAYOUTS: Final = {\n")
    for name, layout in layouts:
        upper = name.removeprefix("pw_").upper()
        lines.append(f'    "{name}": ({layout.size}, "{layout.format}", {upper}_FIELDS),\n')
    lines.append("}\n")
    return "".join(lines)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(render(Btf(raw_btf(sys.argv[1]))))

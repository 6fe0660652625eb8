"""Where the compiled BPF objects lie. By itself, so that a rescue need not read in what the guard does with its own."""

from __future__ import annotations

import os

from pidwarden.errors import NotPossible


def object_path(name: str = "pidwarden") -> str:
    """Where a compiled object lies, beside this package.

    Raises:
        NotPossible: it was not built.
    """
    # Not importlib.resources: that reads in modules when it is called, and a rescue may not.
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "bpf", f"{name}.bpf.o")
    if not os.path.isfile(path):
        msg = f"{path} is missing: the package was not built; type `pip install .` in the source tree"
        raise NotPossible(msg)
    return path

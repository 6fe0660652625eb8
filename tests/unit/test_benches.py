"""A bench that imports what is gone is found out here, not when somebody wants its figures again."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCH.glob("*.py")))
def test_a_bench_can_be_started(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    try:
        assert callable(importlib.import_module(name).main)
    finally:
        for fresh in set(sys.modules) - before:  # its siblings have names that others may have
            if getattr(sys.modules[fresh], "__file__", None) and BENCH in Path(sys.modules[fresh].__file__).parents:
                del sys.modules[fresh]

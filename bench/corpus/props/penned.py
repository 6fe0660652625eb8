"""For bombs in Python: refuses to go on outside a pen."""

import gc
import sys

from pidwarden.drill.shapes import in_pen


def require_pen() -> None:
    """Ends the process unless it is in a pen."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        if not in_pen(file.readlines()):
            sys.stderr.write("this is a bomb and goes off in a pen only; type `python bench/corpus/run.py`\n")
            sys.exit(4)
    # A collection would copy pages that thousands of children share.
    gc.disable()
    gc.freeze()

"""Sets off a bomb with no pen around it, in the virtual machine and nowhere else: ``bomb.py SHAPE``."""

import gc
import sys

sys.path.insert(0, "/pidwarden/src/pidwarden/drill")
import shapes

with open("/proc/cmdline", encoding="ascii") as file:
    if "pidwarden.lab=1" not in file.read().split():
        sys.exit("bomb.py: this is not the virtual machine; type `pidwarden drill`")
gc.disable()
gc.freeze()
shapes.SHAPES[sys.argv[1]]()

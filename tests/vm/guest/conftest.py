"""The tests in the machine use the kits of the host's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "host"))

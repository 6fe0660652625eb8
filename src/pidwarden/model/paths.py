"""Where things are unless somebody says otherwise. Apart from the settings, which take longer to import than to use."""

from __future__ import annotations

CONFIG = "/etc/pidwarden.toml"
RUN_DIR = "/run/pidwarden"
STATE_DIR = "/var/lib/pidwarden"
PREPARED = f"{STATE_DIR}/rescue"

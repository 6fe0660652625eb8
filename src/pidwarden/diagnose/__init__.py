"""Snapshots in, findings out: zombies, orphans, stuck tasks, limits. Pure."""

"""Readers of the kernel's tables, one small file for each; each takes the folder that is /proc. See docs/tables.md."""

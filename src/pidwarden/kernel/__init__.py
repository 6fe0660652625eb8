"""One file per kernel interface: bytes in, model values out."""

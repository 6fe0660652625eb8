"""The commands: parse, call, print. One thin file each."""

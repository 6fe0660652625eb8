"""The lab: stock kernels in a virtual machine, with an initramfs built from this tree (docs/adr/0014)."""

"""Programs that are known for starting what others want done, by the paths where distributions have them."""

SPAWNERS = (
    "/sbin/init",
    "/lib/systemd/systemd",
    "/usr/sbin/sshd",
    "/usr/lib/openssh/sshd-session",
    "/usr/libexec/openssh/sshd-session",
    "/usr/sbin/cron",
    "/usr/sbin/crond",
    "/usr/sbin/anacron",
    "/usr/sbin/atd",
    "/usr/bin/containerd-shim",
    "/usr/bin/containerd-shim-runc-v2",
    "/usr/bin/conmon",
    "/usr/libexec/podman/conmon",
    "/bin/login",
    "/sbin/agetty",
    "/sbin/getty",
    "/usr/bin/tmux",
    "/usr/bin/screen",
)
SHELLS = (
    "/bin/bash",
    "/bin/dash",
    "/bin/zsh",
    "/usr/bin/fish",
    "/bin/ksh",
    "/bin/mksh",
    "/bin/busybox",
    "/bin/tcsh",
)

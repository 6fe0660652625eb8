"""A text to paste into the last shell that answers: it lists, freezes and kills with built-ins alone. Pure.

It keeps to what bash, dash and busybox ash have in common, and to what is safe to paste into an interactive one: no
tab, which would complete, and no exclamation mark outside single quotes, which would recall a line of the history.
"""

from __future__ import annotations

from typing import NamedTuple


class Wanted(NamedTuple):
    """Which processes are meant: ``how`` is name, exe, user (a uid) or pgrp."""

    how: str
    what: str


# What a person has to put in, where nobody said it before.
UNKNOWN = Wanted("name", "PUT THE NAME HERE")

_TEXT = r"""# pidwarden: freeze and kill a fork bomb from the shell that is left. Nothing here starts a process.
# Paste all of it into bash, dash or busybox ash. It freezes; then type pw_kill, or pw_thaw to take it back.
# Meant are processes by: name (as ps shows it), exe (path of the program), user (a uid), pgrp (process group).
pw_by=@HOW@
pw_what=@WHAT@
# Never touched: this shell and its ancestors, process 1, kernel threads.
unset IFS
pw_list=' '
pw_odd='*[![:print:]]*'
# One process: what /proc/PID/stat says. The name in it may hold anything, even line ends: the last ") " counts.
# One within execve, whose memory has no text yet, is passed over: newer kernels may not answer for it.
pw_stat() {
  read -r pw_size pw_line pw_line pw_text pw_line 2>/dev/null <"/proc/$1/statm" || return 1
  case $pw_size/$pw_text in 0/*) ;; */0) return 1 ;; esac
  pw_line=
  while IFS= read -r pw_part || [ -n "$pw_part" ]; do
    pw_line="$pw_line$pw_part "
  done 2>/dev/null <"/proc/$1/stat"
  case $pw_line in *") "*) ;; *) return 1 ;; esac
  pw_comm=${pw_line#*(}
  pw_comm=${pw_comm%)*}
  set -- ${pw_line##*) }
  pw_state=$1 pw_ppid=$2 pw_pgrp=$3 pw_start=${20}
}
pw_uid() {
  pw_owner=
  while read -r pw_key pw_owner pw_rest; do
    [ "$pw_key" = Uid: ] && return 0
  done 2>/dev/null <"/proc/$1/status"
  return 1
}
# Whether a process is meant, and lives.
pw_meant() {
  case "$pw_spared" in *" $1 "*) return 1 ;; esac
  pw_stat "$1" || return 1
  [ "$pw_ppid" = 2 ] && return 1
  case $pw_state in Z | X) return 1 ;; esac
  case $pw_by in
  name) [ "$pw_comm" = "$pw_what" ] ;;
  exe) [ "/proc/$1/exe" -ef "$pw_what" ] ;;
  user) pw_uid "$1" && [ "$pw_owner" = "$pw_what" ] ;;
  pgrp) [ "$pw_pgrp" = "$pw_what" ] ;;
  *) return 1 ;;
  esac
}
# Twenty of them, and how many there are.
pw_look() {
  pw_n=0
  for pw_dir in /proc/[0-9]*; do
    pw_pid=${pw_dir#/proc/}
    pw_meant "$pw_pid" || continue
    pw_n=$((pw_n + 1))
    [ "$pw_n" -gt 20 ] && continue
    case $pw_comm in $pw_odd) pw_comm='(not printable)' ;; esac
    echo "  pid $pw_pid, parent $pw_ppid, group $pw_pgrp, state $pw_state: $pw_comm"
  done
  echo "$pw_n processes with $pw_by $pw_what"
}
# Passes until two in a row find nothing new: each stops whoever was born during the last.
pw_freeze() {
  pw_calm=0 pw_pass=0
  while [ "$pw_calm" -lt 2 ] && [ "$pw_pass" -lt 200 ]; do
    pw_pass=$((pw_pass + 1)) pw_new=0
    for pw_dir in /proc/[0-9]*; do
      pw_pid=${pw_dir#/proc/}
      pw_meant "$pw_pid" || continue
      case $pw_list in *" $pw_pid/$pw_start "*) [ "$pw_state" = T ] && continue ;; esac
      kill -STOP "$pw_pid" 2>/dev/null || continue
      case $pw_list in *" $pw_pid/$pw_start "*) continue ;; esac
      pw_list="$pw_list$pw_pid/$pw_start " pw_new=$((pw_new + 1))
    done
    echo "pass $pw_pass: $pw_new more frozen"
    if [ "$pw_new" = 0 ]; then pw_calm=$((pw_calm + 1)); else pw_calm=0; fi
  done
  [ "$pw_calm" = 2 ] || echo "still growing after $pw_pass passes: freeze by another sign, exe or user"
}
# Kills what was frozen, looks again, and says what is left.
pw_kill() {
  pw_round=0 pw_killed=0 pw_left=1
  while [ "$pw_left" -gt 0 ] && [ "$pw_round" -lt 50 ]; do
    pw_round=$((pw_round + 1))
    for pw_one in $pw_list; do
      pw_pid=${pw_one%/*}
      pw_stat "$pw_pid" && [ "$pw_start" = "${pw_one#*/}" ] || continue
      case $pw_state in Z | X) continue ;; esac
      kill -KILL "$pw_pid" 2>/dev/null && [ "$pw_round" = 1 ] && pw_killed=$((pw_killed + 1))
    done
    pw_left=0 pw_new=0
    for pw_dir in /proc/[0-9]*; do
      pw_pid=${pw_dir#/proc/}
      pw_meant "$pw_pid" || continue
      pw_left=$((pw_left + 1))
      case $pw_list in *" $pw_pid/$pw_start "*) continue ;; esac
      kill -STOP "$pw_pid" 2>/dev/null || continue
      pw_list="$pw_list$pw_pid/$pw_start " pw_new=$((pw_new + 1)) pw_killed=$((pw_killed + 1))
    done
  done
  echo "killed $pw_killed; $pw_left left"
  [ "$pw_left" = 0 ] || pw_look
}
pw_thaw() {
  for pw_one in $pw_list; do
    pw_stat "${pw_one%/*}" && [ "$pw_start" = "${pw_one#*/}" ] && kill -CONT "${pw_one%/*}"
  done
  pw_list=' '
  echo "continued what was frozen"
}
pw_spared=' 1 2 '
pw_up=$$
while [ "$pw_up" -gt 1 ]; do
  pw_spared="$pw_spared$pw_up "
  pw_stat "$pw_up" || break
  pw_up=$pw_ppid
done
pw_look
pw_freeze
echo "now type pw_kill, or pw_thaw to let them go"
"""


def quoted(text: str) -> str:
    """One word for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def shell_text(wanted: Wanted = UNKNOWN) -> str:
    """The text; it ends with a line end, and freezes when it is run."""
    return _TEXT.replace("@HOW@", wanted.how).replace("@WHAT@", quoted(wanted.what))

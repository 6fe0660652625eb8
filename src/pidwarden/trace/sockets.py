"""Addresses, messages and vectors of sockets as strace writes them. Pure."""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Final

from pidwarden.trace.abi import CONTROL, IOV, NAME
from pidwarden.trace.flags import BY_NAME, socket_level
from pidwarden.trace.text import hexa, pointer, quote

if TYPE_CHECKING:
    from pidwarden.trace.call import Call

ADDRESS_BYTES: Final = 128  # sockaddr_storage
_UNIX, _INET, _INET6, _NETLINK, _PACKET = 1, 2, 10, 16, 17
_family = BY_NAME["family"]
_msg = BY_NAME["msg"]
_IOVEC: Final = 16
_MSGHDR: Final = struct.Struct("<QI4xQQQQI4x")
MSGHDR_BYTES: Final = _MSGHDR.size
_CMSG: Final = 16
_RIGHTS: Final = 1
_CREDENTIALS: Final = 2


def address(data: bytes) -> str:
    """A struct sockaddr of that many bytes."""
    if len(data) < 2:  # noqa: PLR2004
        return quote_hex(data)
    family = int.from_bytes(data[:2], "little")
    return f"{{sa_family={_family(family)}{_rest(family, data)}}}"


def _rest(family: int, data: bytes) -> str:
    if len(data) == 2:  # noqa: PLR2004
        return ""
    if family == _UNIX:
        return f", sun_path={_unix(data[2:])}"
    if family == _INET and len(data) >= 16:  # noqa: PLR2004
        port, where = int.from_bytes(data[2:4], "big"), ipaddress.IPv4Address(data[4:8])
        return f', sin_port=htons({port}), sin_addr=inet_addr("{where}")'
    if family == _INET6 and len(data) >= 24:  # noqa: PLR2004
        port, flow = struct.unpack_from(">HI", data, 2)
        where6 = _inet6(data[8:24])
        text = f', sin6_port=htons({port}), sin6_flowinfo=htonl({flow}), inet_pton(AF_INET6, "{where6}", &sin6_addr)'
        scope = f", sin6_scope_id={int.from_bytes(data[24:28], 'little')}" if len(data) >= 28 else ""  # noqa: PLR2004
        return text + scope
    if family == _NETLINK and len(data) >= 12:  # noqa: PLR2004
        pad, pid, groups = struct.unpack_from("<HiI", data, 2)
        text = f", nl_pad={pad:#x}" if pad else ""
        return f"{text}, nl_pid={pid}, nl_groups=" + (f"{groups:#08x}" if groups else f"{groups:08x}")
    return f", sa_data={quote(data[2:])}"


def _inet6(data: bytes) -> str:
    found = ipaddress.IPv6Address(data)
    mapped = found.ipv4_mapped
    return f"::ffff:{mapped}" if mapped else str(found)


def _unix(path: bytes) -> str:
    if path[:1] == b"\0":
        return "@" + quote(path[1:])
    return quote(path.split(b"\0")[0])


def quote_hex(data: bytes) -> str:
    r"""Every byte as ``\xNN``."""
    return '"' + "".join([f"\\x{byte:02x}" for byte in data]) + '"'


def data_text(  # noqa: PLR0913
    call: Call, arg: int, part: int, length: int, where: int, limit: int, *, after: bool, coded: bool = False
) -> str:
    """A buffer of `length` bytes; without its content if that was not captured."""
    if not where:
        return "NULL"
    if not length:
        return '""'
    piece = call.told(arg, part) if after else call.given(arg, part)
    if piece is None:
        return pointer(where) if call.is_bad(arg, part) else '""...'
    if coded:
        return quote_hex(piece.data[:limit]) + ("..." if length > limit else "")
    return quote(piece.data[:length], limit, more=length > len(piece.data))


def iovec(  # noqa: PLR0913
    call: Call, arg: int, count: int, limit: int, left: int | None,
    *, where: int | None = None, part: int = 0, addresses: bool = False,
) -> str:  # fmt: skip
    """`count` iovecs; of `left` bytes altogether (None: of as many as they say), or only where they lie."""
    piece = call.given(arg, part)
    if piece is None:
        return pointer(call.args[arg] if where is None else where)
    texts = []
    have = min(count, len(piece.data) // _IOVEC)
    for n in range(have):
        base, size = struct.unpack_from("<QQ", piece.data, n * _IOVEC)
        length = size if left is None else min(size, left)
        if left is not None:
            left -= length
        content = (
            pointer(base) if addresses else data_text(call, arg, n + 1, length, base, limit, after=left is not None)
        )
        texts.append(f"{{iov_base={content}, iov_len={size}}}")
    if count > have:
        texts.append("...")
    return f"[{', '.join(texts)}]"


def message(call: Call, arg: int, limit: int, *, received: bool) -> str:
    """A struct msghdr."""
    piece = call.told(arg) if received else call.given(arg)
    if piece is None or len(piece.data) < MSGHDR_BYTES:
        return pointer(call.args[arg])
    name, name_length, iov, iov_count, control, control_length, bits = _MSGHDR.unpack_from(piece.data)
    before = call.given(arg) if received else None
    given = (
        int.from_bytes(before.data[8:12], "little") if before is not None and len(before.data) > _IOVEC else name_length
    )
    who = call.told(arg, NAME) if received else call.given(arg, NAME)
    size = min(name_length, given)
    named = address(who.data[:size]) if name and who is not None and size else pointer(name)
    lengths = f"{given} => {name_length}" if given != name_length else str(name_length)
    left = call.ret if received else None
    parts = iovec(call, arg, iov_count, limit, left, where=iov, part=IOV)
    fields = [f"msg_name={named}", f"msg_namelen={lengths}", f"msg_iov={parts}", f"msg_iovlen={iov_count}"]
    if control_length:
        found = call.told(arg, CONTROL) if received else call.given(arg, CONTROL)
        known = found is not None and found.data and control
        text = _control(found.data[:control_length]) if found is not None and known else pointer(control)
        fields.append(f"msg_control={text}")
    return f"{{{', '.join(fields)}, msg_controllen={control_length}, msg_flags={_msg(bits)}}}"


def _control(data: bytes) -> str:
    texts, at = [], 0
    while at + _CMSG <= len(data):
        size, level, kind = struct.unpack_from("<Qii", data, at)
        content = data[at + _CMSG : at + max(size, _CMSG)]
        texts.append(f"{{cmsg_len={size}, {_control_content(level, kind, content)}}}")
        if size < _CMSG:
            break
        at += size + 7 & ~7
    return f"[{', '.join(texts)}]"


def _control_content(level: int, kind: int, data: bytes) -> str:
    if level == 1 and kind == _RIGHTS:
        numbers = struct.unpack(f"<{len(data) // 4}i", data[: len(data) & ~3])
        return f"cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[{', '.join(map(str, numbers))}]"
    if level == 1 and kind == _CREDENTIALS and len(data) >= 12:  # noqa: PLR2004
        pid, uid, gid = struct.unpack_from("<iii", data)
        return f"cmsg_level=SOL_SOCKET, cmsg_type=SCM_CREDENTIALS, cmsg_data={{pid={pid}, uid={uid}, gid={gid}}}"
    return f"cmsg_level={socket_level(level)}, cmsg_type={hexa(kind & 0xFFFFFFFF)}, cmsg_data={quote(data)}"

"""The system calls that a sandbox denies, as a filter for the kernel.

Most of them need a capability that a guest has not. They are denied all the same, because
each is a way into the kernel, and user namespaces give capabilities away: so there are none
to be made inside.

Source: seccomp(2); the lists of Flatpak and of Docker's default profile name the same calls.
"""

from __future__ import annotations

import errno
import platform
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_DENIED = {  # name: number on x86_64, on aarch64; None: that machine has no such call
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_IOCTL = (16, 29)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000
"""System calls of the x32 interface have this bit, and would pass a filter of plain numbers."""
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEW*: user, pid, network, mount, UTS, IPC, cgroup."""
_TERMINAL = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX write into the terminal that a guest was started from."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def is_known() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in _ARCHITECTURES


def filter_for(machine: str) -> bytes:
    """Assemble the filter: instructions of classic BPF, as bubblewrap takes them.

    Args:
        machine: As `platform.machine` says: x86_64 or aarch64.
    """
    column, architecture = _ARCHITECTURES[machine]
    denied = sorted(n for pair in _DENIED.values() if (n := pair[column]) is not None)
    refuse, unknown = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    code = [
        _op(_LOAD, _ARCHITECTURE),
        _op(_EQUAL, architecture, 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        code += [_op(_AT_LEAST, _X32, 0, 1), _op(_RETURN, unknown)]
    for number in denied:
        code += [_op(_EQUAL, number, 0, 1), _op(_RETURN, refuse)]
    # Its flags are in memory, out of sight; who gets ENOSYS falls back to clone.
    code += [_op(_EQUAL, _CLONE3[column], 0, 1), _op(_RETURN, unknown)]
    code += [
        _op(_EQUAL, _CLONE[column], 0, 3),
        _op(_LOAD, _FIRST),
        _op(_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _op(_RETURN, refuse),
        _op(_LOAD, _NUMBER),
        _op(_EQUAL, _IOCTL[column], 0, 4),
        _op(_LOAD, _SECOND),
    ]
    for index, request in enumerate(reversed(_TERMINAL)):
        code.append(_op(_EQUAL, request, 1 - index, index))
    code += [_op(_RETURN, refuse), _op(_RETURN, _ALLOW)]
    return b"".join(code)


def profile() -> dict[str, object]:
    """Return the same as a profile for container engines, which know the numbers of calls."""
    refused: list[dict[str, object]] = [_rule(sorted(_DENIED), errno.EPERM)]
    refused.append(_rule(["clone3"], errno.ENOSYS))
    for bit in range(_NEW_NAMESPACES.bit_length()):
        if _NEW_NAMESPACES >> bit & 1:
            flag = {"index": 0, "value": 1 << bit, "valueTwo": 1 << bit}
            refused.append(_rule(["clone"], errno.EPERM, flag | {"op": "SCMP_CMP_MASKED_EQ"}))
    for request in _TERMINAL:
        asked = {"index": 1, "value": request, "op": "SCMP_CMP_EQ"}
        refused.append(_rule(["ioctl"], errno.EPERM, asked))
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": refused}


def _rule(names: list[str], error: int, *arguments: Mapping[str, object]) -> dict[str, object]:
    return {
        "names": names,
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": error,
        "args": list(arguments),
    }


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)

"""Which addresses mailflow takes: a narrow, safe part of RFC 5321 and RFC 6531.

Addresses come from strangers and go into SMTP commands, header lines and pages, so what is
not plainly an address is refused here, before anything else sees it.
"""

from __future__ import annotations

import re

MAX_OCTETS = 254
MAX_LOCAL_OCTETS = 64
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a1-\U0010ffff]+", re.ASCII)
_LABEL = re.compile(
    r"[A-Za-z0-9\u00a1-\U0010ffff]"
    r"(?:[A-Za-z0-9\-\u00a1-\U0010ffff]{0,61}[A-Za-z0-9\u00a1-\U0010ffff])?"
)


class BadAddress(ValueError):
    """Not an address that mailflow takes; the text says why."""


def check(address: str, *, allows_utf8: bool = True) -> str:
    """Return the address as it is, if it is one.

    Args:
        address: `local@domain`, without angle brackets, quotes or comments.
        allows_utf8: Whether letters beyond ASCII are allowed, as after SMTPUTF8.

    Raises:
        BadAddress: It is not one; the text is fit for a reply to whoever gave it.

    Source: RFC 5321, 4.5.3.1 (sizes); RFC 5322, 3.2.3 (dot-atom); RFC 6531, 3.3 (UTF-8).
    """
    if not address.isprintable() or " " in address:
        raise BadAddress("an address has no spaces and no control characters")
    if not address.isascii() and not allows_utf8:
        raise BadAddress("an address beyond ASCII needs SMTPUTF8")
    if address.count("@") != 1:
        raise BadAddress("an address has one @")
    if len(address.encode()) > MAX_OCTETS:
        raise BadAddress(f"an address has at most {MAX_OCTETS} octets")
    local, _, domain = address.partition("@")
    if len(local.encode()) > MAX_LOCAL_OCTETS:
        raise BadAddress(f"the part before the @ has at most {MAX_LOCAL_OCTETS} octets")
    if not all(_LOCAL.fullmatch(atom) for atom in local.split(".")):
        raise BadAddress("the part before the @ is letters, digits and single dots")
    if not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise BadAddress("the part behind the @ is a domain name")
    return address


def domain_of(address: str) -> str:
    """Return the domain of a checked address, in lower case."""
    return address.rpartition("@")[2].lower()


def split_list(text: str) -> list[str]:
    """Read addresses separated by commas, semicolons, blanks or new lines; repeats go."""
    return list(dict.fromkeys(part for part in re.split(r"[\s,;]+", text) if part))

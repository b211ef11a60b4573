"""Mail to put mailflow under load with, and scenarios for `rolekit load`.

mails      which mails, to whom, by which way; sending them so that nothing is sent twice
entry      one request of a load test: a mail sent, its report read to the end; and the check
*.toml     scenarios
"""

from examples.mailflow.load.mails import (
    BUSY,
    DOMAIN,
    LARGE_BYTES,
    Mail,
    NotAccepted,
    Sender,
    Target,
    Way,
    make_load,
)

__all__ = [
    "BUSY",
    "DOMAIN",
    "LARGE_BYTES",
    "Mail",
    "NotAccepted",
    "Sender",
    "Target",
    "Way",
    "make_load",
]

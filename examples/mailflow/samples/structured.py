"""Samples of several parts: alternatives, attachments, nesting, reports, signatures."""

from __future__ import annotations

from examples.mailflow.inspector import EICAR
from examples.mailflow.samples.sample import Sample, attached, crlf, head, multipart, part

_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63606060f80f0001040100a5d5c6f80000000049454e44ae426082"
)
_PLAIN = part("text/plain; charset=utf-8", b"The plain version.\r\n")
_HTML = part(
    "text/html; charset=utf-8",
    b"<html><head><title>t</title><style>p{color:red}</style></head><body onload=alert(1)>"
    b"<p>The <b>HTML</b> version.</p><script>alert(2)</script></body></html>\r\n",
)


def _nested(depth: int) -> bytes:
    entity = part("text/plain", f"{depth} levels down.\r\n".encode())
    for level in range(depth):
        file = attached(f"level-{level}.bin", bytes([level]) * 40)
        entity = multipart("mixed", entity, file, boundary=f"=_level{level}")
    return entity


def _wrapped(subject: str, entity: bytes) -> bytes:
    return head(subject) + entity


def _forwarded() -> bytes:
    inner = head("The original") + multipart("mixed", _PLAIN, attached("inner.txt", b"inside"))
    return _wrapped(
        "Fwd: The original",
        multipart(
            "mixed",
            part("text/plain", b"See below.\r\n"),
            part("message/rfc822", inner, "Content-Disposition: inline"),
            boundary="=_outer",
        ),
    )


def _delivery_report() -> bytes:
    status = crlf("""
        Reporting-MTA: dns; relay.mail.example

        Final-Recipient: rfc822; gone@mail.example
        Action: failed
        Status: 5.1.1
        Diagnostic-Code: smtp; 550 5.1.1 no such mailbox
        """)
    return _wrapped(
        "Undelivered mail",
        multipart(
            "report",
            part("text/plain", b"Your mail could not be delivered.\r\n"),
            part("message/delivery-status", status),
            part("text/rfc822-headers", head("The lost mail")),
            extra="; report-type=delivery-status",
        ),
    )


def _calendar() -> bytes:
    event = crlf("""
        BEGIN:VCALENDAR
        VERSION:2.0
        METHOD:REQUEST
        BEGIN:VEVENT
        UID:party@mail.example
        DTSTART:20260401T180000Z
        SUMMARY:Party
        END:VEVENT
        END:VCALENDAR
        """)
    invitation = part("text/calendar; method=REQUEST; charset=utf-8", event)
    return _wrapped("Invitation", multipart("alternative", _PLAIN, _HTML, invitation))


def _related() -> bytes:
    page = part(
        "text/html; charset=utf-8", b'<p>A dot: <img src="cid:dot@mail.example"></p>\r\n'
    )
    dot = part(
        "image/png",
        b"iVBORw0KGgo=\r\n",
        "Content-Transfer-Encoding: base64",
        "Content-ID: <dot@mail.example>",
        "Content-Disposition: inline",
    )
    related = multipart("related", page, dot, boundary="=_related")
    whole = multipart("alternative", _PLAIN, related, boundary="=_alternative")
    return _wrapped("With a picture", whole)


def _signed() -> bytes:
    return _wrapped(
        "Signed",
        multipart(
            "signed",
            part("text/plain", b"Not one blank may change:   \r\n"),
            attached("smime.p7s", bytes(range(256)), "application/pkcs7-signature"),
            extra='; protocol="application/pkcs7-signature"; micalg=sha-256',
        ),
    )


def _pgp() -> bytes:
    armoured = (
        b"-----BEGIN PGP MESSAGE-----\r\n\r\nbm90IHJlYWxseQ==\r\n-----END PGP MESSAGE-----\r\n"
    )
    return _wrapped(
        "...",
        multipart(
            "encrypted",
            part("application/pgp-encrypted", b"Version: 1\r\n"),
            part('application/octet-stream; name="encrypted.asc"', armoured),
            extra='; protocol="application/pgp-encrypted"',
        ),
    )


def _odd_names() -> bytes:
    names = ("../../etc/passwd", "C:\\boot.ini", "a\tb.txt", "x" * 300 + ".txt")
    rfc2231 = part(
        "text/plain",
        b"named in pieces\r\n",
        "Content-Disposition: attachment; filename*0*=utf-8''%E2%9C%89; filename*1=letter.txt",
    )
    files = [attached(name, name.encode()) for name in names]
    return _wrapped("Names of files", multipart("mixed", _PLAIN, rfc2231, *files))


def _many_files() -> bytes:
    files = [attached(f"file-{n:02}.dat", bytes([n]) * 500) for n in range(25)]
    return _wrapped("Twenty-five files", multipart("mixed", _PLAIN, *files))


def _virus(depth: int) -> bytes:
    entity = multipart("mixed", _PLAIN, attached("game.com", EICAR), boundary="=_virus")
    for level in range(depth):
        entity = multipart("mixed", _PLAIN, entity, boundary=f"=_around{level}")
    return _wrapped("A game for you", entity)


def samples() -> list[Sample]:
    """Return the samples of several parts."""
    return [
        Sample(
            name="alternative",
            raw=_wrapped("Two versions", multipart("alternative", _PLAIN, _HTML)),
        ),
        Sample(name="html only", raw=head("Only HTML") + _HTML),
        Sample(
            name="one attachment",
            raw=_wrapped(
                "A dot", multipart("mixed", _PLAIN, attached("dot.png", _PIXEL, "image/png"))
            ),
        ),
        Sample(name="related picture", raw=_related()),
        Sample(name="six levels", raw=_wrapped("Six levels", _nested(6))),
        Sample(name="forwarded message", raw=_forwarded()),
        Sample(name="delivery report", raw=_delivery_report()),
        Sample(name="calendar", raw=_calendar()),
        Sample(name="s/mime signature", raw=_signed()),
        Sample(name="pgp encrypted", raw=_pgp()),
        Sample(name="odd file names", raw=_odd_names()),
        Sample(name="twenty-five attachments", raw=_many_files()),
        Sample(name="virus", raw=_virus(0), fate="infected"),
        Sample(name="virus three levels down", raw=_virus(3), fate="infected"),
    ]

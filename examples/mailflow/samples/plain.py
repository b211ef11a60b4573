"""Samples of one part: charsets, encodings, headers."""

from __future__ import annotations

from examples.mailflow.samples.sample import Sample, crlf, head

_TEXT = "Content-Type: text/plain; charset=utf-8"

SAMPLES = [
    Sample(name="plain", raw=head("Lunch on Friday?") + b"\r\nThe usual place at noon.\r\n"),
    Sample(name="empty body", raw=head("Only a subject") + b"\r\n"),
    Sample(name="headers only, no blank line", raw=head("Ends with its headers")),
    Sample(
        name="no final line end",
        raw=head("Cut short") + b"\r\nThe last line has no end",
        fits_smtp=False,
    ),
    Sample(
        name="8bit utf-8",
        raw=head("Menu", _TEXT, "Content-Transfer-Encoding: 8bit")
        + "\r\nCrème brûlée, 7 €. Ναι! 寿司も。 🍣\r\n".encode(),  # noqa: RUF001  Greek
    ),
    Sample(
        name="iso-8859-1",
        raw=head(
            "Cafe",
            "Content-Type: text/plain; charset=iso-8859-1",
            "Content-Transfer-Encoding: 8bit",
        )
        + "\r\nÀ bientôt, mon chéri.\r\n".encode("iso-8859-1"),
    ),
    Sample(
        name="windows-1251",
        raw=head("Privet", "Content-Type: text/plain; charset=windows-1251")
        + "\r\nПривет из почты.\r\n".encode("cp1251"),  # noqa: RUF001  Cyrillic
    ),
    Sample(
        name="iso-2022-jp",
        raw=head("Japanese", "Content-Type: text/plain; charset=iso-2022-jp")
        + "\r\n郵便の話。\r\n".encode("iso-2022-jp"),
    ),
    Sample(
        name="utf-16 in base64",
        raw=head(
            "Wide letters",
            "Content-Type: text/plain; charset=utf-16",
            "Content-Transfer-Encoding: base64",
        )
        + b"\r\n//5oAGUAbABsAG8A\r\n",
    ),
    Sample(
        name="quoted-printable with soft breaks",
        raw=head("Soft", _TEXT, "Content-Transfer-Encoding: quoted-printable")
        + b"\r\nThis line goes on =\r\nand on; 1 =2B 1, na=C3=AFve.\r\nblank at end=20\r\n",
    ),
    Sample(
        name="encoded words",
        raw=crlf("""
            From: =?utf-8?q?Gr=C3=A4fin_Ada?= <ada@mail.example>
            To: =?iso-8859-1?Q?Andr=E9?= <andre@mail.example>
            Subject: =?utf-8?B?UG9zdCBmw7xyIGRpY2g=?= =?utf-8?q?_=E2=9C=89?=
            Date: Mon, 02 Mar 2026 10:00:00 +0000
            Message-ID: <words@samples.mail.example>

            The subject is two encoded words.
            """),
    ),
    Sample(
        name="broken encoded words",
        raw=head("=?utf-8?q?never=C3ends and =?no-such-charset?q?x?= =?utf-8?b?!!!?=")
        + b"\r\nNone of them decodes.\r\n",
    ),
    Sample(
        name="smtputf8 headers",
        raw="From: Ζωή <ζωή@mail.example>\r\nTo: 用户@mail.example\r\n"
        "Subject: Χαίρετε, мир, 世界\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\n"
        "Message-ID: <utf8@samples.mail.example>\r\n\r\nHeaders beyond ASCII.\r\n".encode(),
    ),
    Sample(
        name="folded header of 4,000 octets",
        raw=head(
            "Many references",
            "References: " + "\r\n ".join(f"<ref-{n:04}@mail.example>" for n in range(150)),
        )
        + b"\r\nA long thread.\r\n",
    ),
    Sample(
        name="header line of 998 octets",
        raw=head("Wide", "X-Wide: " + "w" * 990) + b"\r\nAs wide as it gets.\r\n",
    ),
    Sample(
        name="dots at the start of lines",
        raw=head("Dots") + b"\r\n.\r\n..\r\n.hidden\r\n...and so on\r\n",
    ),
    Sample(
        name="trailing blanks and tabs",
        raw=head("Blanks") + b"\r\nkept   \r\n\t\r\n  \r\nkept too\t\r\n\r\n\r\n",
    ),
    Sample(
        name="group address and comments",
        raw=crlf("""
            From: Ada (the countess) <ada@mail.example>
            Sender: office@mail.example
            To: Friends: bob@mail.example, "Carol, C." <carol@mail.example>;,
             undisclosed-recipients:;
            Subject: To a group
            Date: Mon, 02 Mar 2026 10:00:00 +0000 (UTC)
            Message-ID: <group@samples.mail.example>

            Hello all.
            """),
    ),
    Sample(
        name="many received lines",
        raw=b"".join(
            b"Received: from relay-%d.mail.example by relay-%d.mail.example; "
            b"Mon, 02 Mar 2026 09:%02d:00 +0000\r\n" % (n, n + 1, n)
            for n in range(40)
        )
        + head("Came a long way")
        + b"\r\nForty servers.\r\n",
    ),
    Sample(
        name="format=flowed",
        raw=head(
            "Flowed", "Content-Type: text/plain; charset=us-ascii; format=flowed; delsp=yes"
        )
        + b"\r\n> quoted \r\n> text \r\nand an answer \r\nthat flows.\r\n-- \r\nAda\r\n",
    ),
    Sample(
        name="looks like html in plain text",
        raw=head("<script>alert(1)</script> & <b>bold</b>")
        + b'\r\n<img src=x onerror="alert(2)">\r\n</pre><script>alert(3)</script>\r\n',
    ),
]

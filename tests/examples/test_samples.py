"""The samples, and reading them."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from examples.mailflow import spamcheck
from examples.mailflow.inspector import EICAR
from examples.mailflow.mailtext import Letter, attachments, leaves, text_of_html
from examples.mailflow.messages import JUNK_FROM
from examples.mailflow.samples import Sample, all_samples
from examples.mailflow.samples.large import MEGABYTE

LEGACY = spamcheck.FILTER.parent
SAMPLES = all_samples()
BY_NAME = {sample.name: sample for sample in SAMPLES}

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def test_there_are_thirty_samples_or_more_of_different_names_and_bytes() -> None:
    assert len(SAMPLES) >= 30
    assert len(BY_NAME) == len(SAMPLES)
    assert len({sample.raw for sample in SAMPLES}) == len(SAMPLES)


def test_the_samples_are_the_same_each_time() -> None:
    first = [hashlib.sha256(sample.raw).digest() for sample in SAMPLES]

    assert [hashlib.sha256(sample.raw).digest() for sample in all_samples()] == first


@each_sample
def test_each_sample_can_be_read_and_has_no_control_characters_in_its_headers(
    sample: Sample,
) -> None:
    letter = Letter.read(sample.raw)

    for _, value in letter.headers:
        assert value.isprintable()
        value.encode()
    assert all(part.name.isprintable() for part in attachments(sample.raw))


@each_sample
def test_each_sample_meets_its_fate(sample: Sample) -> None:
    is_infected = any(EICAR in part.data for part in attachments(sample.raw))
    ran = subprocess.run(
        ["perl", LEGACY / "junkfilter.pl"], input=sample.raw, capture_output=True, check=True
    )
    is_junk = spamcheck.understood(ran.stdout)[0] >= JUNK_FROM

    assert ran.stderr == b""
    assert (is_infected, is_junk) == (sample.fate == "infected", sample.fate == "junk")


@each_sample
def test_a_sample_fits_smtp_when_its_lines_do(sample: Sample) -> None:
    bare = sample.raw.replace(b"\r\n", b"")
    is_fit = (
        b"\r" not in bare
        and b"\n" not in bare
        and sample.raw.endswith(b"\r\n")
        and max(map(len, sample.raw.split(b"\r\n"))) <= 998
    )

    assert sample.fits_smtp is is_fit


def test_the_largest_attachments_have_one_and_five_megabytes() -> None:
    sizes = sorted(len(part.data) for sample in SAMPLES for part in attachments(sample.raw))

    assert sizes[-2:] == [MEGABYTE, 5 * MEGABYTE]


def test_nested_attachments_are_all_found() -> None:
    names = [part.name for part in attachments(BY_NAME["six levels"].raw)]

    assert names == [f"level-{level}.bin" for level in range(6)]


def test_names_of_attachments_cannot_leave_their_folder() -> None:
    names = [part.name for part in attachments(BY_NAME["odd file names"].raw)]

    assert not any(set(name) & set('/\\:*?"<>|') for name in names)
    assert max(map(len, names)) <= 120
    assert names[0] == "✉letter.txt"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("8bit utf-8", "Crème brûlée, 7 €."),
        ("iso-8859-1", "À bientôt, mon chéri."),
        ("windows-1251", "Привет из почты."),
        ("iso-2022-jp", "郵便の話。"),
        ("utf-16 in base64", "hello"),
        ("quoted-printable with soft breaks", "This line goes on and on; 1 + 1, naïve."),
        ("alternative", "The plain version."),
        ("html only", "The HTML version."),
    ],
)
def test_text_is_decoded(name: str, words: str) -> None:
    assert words in Letter.read(BY_NAME[name].raw).text


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("encoded words", "Post für dich ✉"),
        ("smtputf8 headers", "Χαίρετε, мир, 世界"),
        ("looks like html in plain text", "<script>alert(1)</script> & <b>bold</b>"),
        ("no headers at all", ""),
    ],
)
def test_subjects_are_decoded(name: str, subject: str) -> None:
    assert Letter.read(BY_NAME[name].raw).subject == subject


def test_html_becomes_text_without_scripts_and_styles() -> None:
    html = "<style>p{}</style><p>One</p><script>alert(1)</script><p>two &lt;b&gt; <b>three</b>"

    assert text_of_html(html) == "One\ntwo <b> three"


def test_ten_thousand_levels_do_not_overflow_the_stack() -> None:
    raw = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        for level in range(200)
    )

    assert len(leaves(raw)) <= 200

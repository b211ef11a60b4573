"""Which addresses are taken."""

from __future__ import annotations

import pytest

from examples.mailflow.addresses import BadAddress, check, domain_of, split_list


@pytest.mark.parametrize(
    "address",
    [
        "a@b",
        "ada.lovelace+tag@mail.example",
        "o'brien@mail.example",
        "ζωή@mail.example",
        "用户@例子.example",
        "a" * 64 + "@mail.example",
        "a@xn--bcher-kva.example",
    ],
)
def test_an_address_is_taken_as_it_is(address: str) -> None:
    assert check(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "@",
        "a",
        "a@",
        "@b",
        "a@b@c",
        "a b@c",
        "a@b\r\nRCPT TO:<x@y>",
        "a\n@b",
        "a\x00@b",
        "a\t@b",
        "a@b ",
        "<a@b>",
        '"a b"@c',
        "a@[127.0.0.1]",
        ".a@b",
        "a.@b",
        "a..b@c",
        "a@.b",
        "a@b..c",
        "a@-b",
        "a@b-",
        "a@b_c",
        "a,b@c",
        "a;b@c",
        "a@" + "b" * 64,
        "a" * 65 + "@b",
        "a@" + ".".join(["b" * 60] * 5),
        "a\u2028b@c",
        "a\u200b@b",
        "a\udcff@b",
        "é" * 33 + "@b",
    ],
)
def test_what_is_not_plainly_an_address_is_refused(address: str) -> None:
    with pytest.raises(BadAddress):
        check(address)


def test_letters_beyond_ascii_need_leave() -> None:
    with pytest.raises(BadAddress, match="SMTPUTF8"):
        check("ζωή@mail.example", allows_utf8=False)


def test_the_domain_is_in_lower_case() -> None:
    assert domain_of("Ada@Mail.EXAMPLE") == "mail.example"


def test_a_list_is_split_at_commas_blanks_and_lines_and_has_no_repeats() -> None:
    assert split_list(" a@x, b@x;c@x\n\nd@x a@x\t") == ["a@x", "b@x", "c@x", "d@x"]

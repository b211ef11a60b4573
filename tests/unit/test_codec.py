"""Messages as bytes and back."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import attrs
import msgspec
import pytest
from pydantic import BaseModel

from rolekit import Blob, Message, field
from rolekit.errors import CodecError, UnknownType
from rolekit.model.codec import Codec, decode_value, encode_value, what_is_wrong
from rolekit.model.envelope import MAX_BODY_BYTES, CodecName
from rolekit.model.message import wire_name, wire_of


class Letter(Message, name="letter", version=3, aliases=("post",)):
    reader: str
    raw: Blob | None = None

    @classmethod
    def upgrade(cls, fields: dict[str, object], version: int) -> dict[str, object]:
        if version == 1:
            fields["reader"] = fields.pop("to")
        return fields


class Express(Letter):
    pass


class Tree(Message):
    under: list[Tree] = field(default_factory=list)


class Anything(Message):
    value: Any


class Bytes(Message):
    data: bytes


@dataclass(frozen=True)
class Plain:
    data: bytes


@attrs.frozen
class Attrs:
    a: int


class Model(BaseModel):
    a: int
    data: bytes = b""


CLASSES = (Letter, Tree, Anything, Bytes, Plain, Attrs, Model)
MESSAGES = (
    Letter(reader="ann", raw=Blob(id="x", size_bytes=3)),
    Tree(under=[Tree(), Tree(under=[Tree()])]),
    Anything(value={"a": [1, 2.5, None, "ä"]}),
    Bytes(data=b"\x00\xff"),
    Plain(data=b"\x00\xff"),
    Attrs(a=1),
    Model(a=1, data=b"x"),
)
CODECS: tuple[CodecName, ...] = ("json", "msgpack")


def codec(default: CodecName = "json") -> Codec:
    names: dict[type, str] = {cls: wire_name(cls) for cls in CLASSES}
    types = {name: cls for cls, name in names.items()}
    return Codec({**types, "post": Letter}, names, default)


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def packed(value: object, form: CodecName) -> bytes:
    return msgspec.json.encode(value) if form == "json" else msgspec.msgpack.encode(value)


@pytest.mark.parametrize("form", CODECS)
@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_is_encoded_is_decoded_to_the_same(message: object, form: CodecName) -> None:
    both = codec(form)

    name, version, body = both.encode(message)

    assert both.decode(name, version, form, body) == message
    assert (name, version) == (wire_name(type(message)), wire_of(type(message)).version)


def test_a_json_body_reads_as_plain_json() -> None:
    _, _, body = codec().encode(Letter(reader="ann"))

    assert json.loads(body) == {"reader": "ann", "raw": None}


def test_a_body_of_the_other_form_is_read_as_well() -> None:
    _, _, body = codec("msgpack").encode(Attrs(a=1))

    assert codec("json").decode("Attrs", 1, "msgpack", body) == Attrs(a=1)


def test_a_subclass_is_another_message() -> None:
    with pytest.raises(UnknownType, match=r"An? Express cannot be sent.*subclass is another"):
        codec().encode(Express(reader="ann"))


@pytest.mark.parametrize("form", CODECS)
def test_an_older_body_goes_through_upgrade(form: CodecName) -> None:
    body = packed({"to": "ann", "raw": {"id": "x", "size_bytes": 1}}, form)

    got = codec().decode("letter", 1, form, body)

    assert got == Letter(reader="ann", raw=Blob(id="x", size_bytes=1))


def test_an_upgrade_that_leaves_a_field_out_is_said_with_its_name() -> None:
    with pytest.raises(CodecError, match=r"`reader`"):
        codec().decode("letter", 2, "json", b'{"to": "ann"}')


def test_an_older_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(CodecError, match=r"Expected `object`, got `list`"):
        codec().decode("letter", 1, "json", b"[]")


def test_an_alias_names_the_class_as_well() -> None:
    assert codec().decode("post", 3, "json", b'{"reader":"a"}') == Letter(reader="a")


def test_unknown_fields_are_ignored() -> None:
    assert codec().decode("Attrs", 1, "json", b'{"a":1,"new":[2]}') == Attrs(a=1)


@pytest.mark.parametrize(
    ("type_", "version", "said"),
    [("nope", 1, "No message of this app is called 'nope'"), ("letter", 4, "knows 1 to 3")],
)
def test_a_type_or_version_nobody_knows_is_not_a_broken_body(
    type_: str, version: int, said: str
) -> None:
    with pytest.raises(UnknownType, match=said):
        codec().decode(type_, version, "json", b"{}")


def test_a_form_nobody_reads_is_refused() -> None:
    with pytest.raises(CodecError, match=r"encoded as 'pickle'; json and msgpack are read"):
        codec().decode("Attrs", 1, "pickle", b"")


@pytest.mark.parametrize(
    ("type_", "body", "said"),
    [
        ("letter", b'{"reader": 5}', r"Expected `str`, got `int` - at `\$.reader`"),
        ("letter", b"\xff\xfe", "cannot be read"),
        ("letter", b'{"reader": "\xff"}', "cannot be read"),
        ("letter", b'{"reader": "a"', "truncated"),
        ("Model", b'{"a": "x"}', r"valid integer.*at `\$.a`"),
        ("Attrs", b"", "cannot be read"),
    ],
)
def test_a_broken_body_is_refused_with_the_field(type_: str, body: bytes, said: str) -> None:
    version = 3 if type_ == "letter" else 1

    with pytest.raises(CodecError, match=said):
        codec().decode(type_, version, "json", body)


@pytest.mark.parametrize("form", CODECS)
def test_a_body_nested_too_deep_is_refused(form: CodecName) -> None:
    both = codec(form)
    deepest = packed({"value": nested(31)}, form)
    deeper = packed({"value": nested(32)}, form)

    assert both.decode("Anything", 1, form, deepest) == Anything(value=nested(31))
    with pytest.raises(CodecError, match=r"deeper than 32 levels"):
        both.decode("Anything", 1, form, deeper)


def test_brackets_within_text_are_not_nesting() -> None:
    body = json.dumps({"value": "[" * 100 + '"\\'}).encode()

    assert codec().decode("Anything", 1, "json", body) == Anything(value="[" * 100 + '"\\')


def test_many_values_side_by_side_are_not_deep() -> None:
    wide = [[number] for number in range(1000)]

    assert codec().decode("Anything", 1, "json", packed({"value": wide}, "json"))


@pytest.mark.parametrize(
    "body",
    [b"[" * 50_000, b'{"under":' * 10_000, b"[[]" * 30_000, b'["\\"' + b'\\"' * 30_000],
    ids=["open", "objects", "comb", "text without end"],
)
def test_a_body_of_brackets_alone_is_refused_and_does_no_harm(body: bytes) -> None:
    with pytest.raises(CodecError, match=r"deeper than 32 levels|truncated|Expected"):
        codec().decode("Tree", 1, "json", body)


@pytest.mark.parametrize("form", CODECS)
def test_a_body_too_large_is_refused_on_both_sides(form: CodecName) -> None:
    both = codec(form)

    with pytest.raises(CodecError, match=r"1048576 are allowed.*Blob"):
        both.encode(Bytes(data=bytes(MAX_BODY_BYTES)))
    with pytest.raises(CodecError, match=r"takes 1048577 bytes"):
        both.decode("Bytes", 1, form, bytes(MAX_BODY_BYTES + 1))


def test_a_field_that_cannot_be_encoded_is_said() -> None:
    with pytest.raises(CodecError, match=r"An? Anything cannot be encoded.*object"):
        codec().encode(Anything(value=object()))


def test_a_class_made_in_a_function_may_name_another_made_there() -> None:
    class Inner(Message):
        a: int

    class Middle(Message):
        inner: Inner

    class Outer(Message):
        middles: list[Middle]

    local = Codec({"Outer": Outer}, {Outer: "Outer"})
    message = Outer(middles=[Middle(inner=Inner(a=1))])

    name, version, body = local.encode(message)

    assert local.decode(name, version, "json", body) == message


def test_a_field_whose_type_does_not_exist_is_named() -> None:
    class Broken(Message):
        a: NotThere  # type: ignore[name-defined]  # noqa: F821

    assert what_is_wrong(Broken) == "name 'NotThere' is not defined"
    assert what_is_wrong(Letter) == ""


@pytest.mark.parametrize(
    "value", [7, "x", [1, 2], Letter(reader="a"), Plain(data=b"x"), Model(a=1)]
)
def test_a_value_that_is_kept_comes_back_the_same(value: object) -> None:
    assert decode_value(type(value), encode_value(value)) == value


def test_a_value_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(CodecError, match=r"object cannot be kept"):
        encode_value(object())


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(CodecError, match=r"What was kept as a int cannot be read.*`int`"):
        decode_value(int, b'"x"')


def test_what_was_prepared_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec({"letter": Letter, "tree": Tree}, {Letter: "letter", Tree: "tree"})

    codec.prepare()

    for name in ("_reader", "_writer"):
        monkeypatch.delattr(Codec, name)
    body = codec.encode(Tree())[2]
    assert codec.decode("tree", 1, "json", body) == Tree()
    assert codec.decode("letter", 3, "json", b'{"reader": "me"}') == Letter(reader="me")

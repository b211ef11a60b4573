"""Where the control API listens, and that nobody reaches it over TCP without a token."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolekit.config import load
from rolekit.errors import ConfigError


def test_a_path_is_a_socket_there(tmp_path: Path) -> None:
    config = load({"ROLEKIT_CONTROL": "/run/a:1/x.sock"}, folder=tmp_path)

    config.check_control()

    assert config.control_address == ""
    assert config.control_path("shop") == Path("/run/a:1/x.sock")


def test_an_address_is_beside_the_socket_in_the_home(tmp_path: Path) -> None:
    environ = {"ROLEKIT_CONTROL": "0.0.0.0:900", "ROLEKIT_CONTROL_TOKEN": "x" * 32}
    config = load(environ, folder=tmp_path)

    config.check_control()

    assert config.control_address == "0.0.0.0:900"
    assert config.control_path("shop") == Path(".rolekit/shop.sock")


@pytest.mark.parametrize(
    ("token", "says"), [("", "no token"), ("x" * 31, "of 31 bytes"), ("ü" * 32, "of ASCII")]
)
def test_an_address_without_a_token_or_with_a_short_one_is_refused(
    tmp_path: Path, token: str, says: str
) -> None:
    environ = {"ROLEKIT_CONTROL": "[::1]:900", "ROLEKIT_CONTROL_TOKEN": token}
    config = load(environ, folder=tmp_path)

    with pytest.raises(ConfigError, match=says) as refused:
        config.check_control()

    assert "ROLEKIT_CONTROL_TOKEN_FILE" in refused.value.fix


def test_the_token_is_never_shown(tmp_path: Path) -> None:
    config = load({"ROLEKIT_CONTROL_TOKEN": "x" * 32}, folder=tmp_path)

    assert "xxx" not in repr(config)
    assert ("control_token", "********", "$ROLEKIT_CONTROL_TOKEN") in config.rows()


def test_instances_are_not_given_it(tmp_path: Path) -> None:
    config = load({"ROLEKIT_CONTROL_TOKEN": "x" * 32}, folder=tmp_path)

    assert "xxx" not in str(config.environment())

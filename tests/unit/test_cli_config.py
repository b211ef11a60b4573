"""Settings: four places, last wins, each value with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.config import load, nearest, redact
from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str, name: str = "rolekit.toml") -> Path:
    (folder / name).write_text(text)
    return folder


def test_the_last_of_file_environment_and_option_wins(tmp_path: Path) -> None:
    write(tmp_path, 'app = "a:app"\ngrace_s = 1\nlog = "debug"')

    config = load(
        {"ROLEKIT_GRACE_S": "2", "ROLEKIT_LOG": "error"},
        settings=["grace_s=3"],
        folder=tmp_path,
    )

    assert (config.app, config.log, config.grace_s) == ("a:app", "error", 3)
    assert config.sources["app"].endswith("rolekit.toml")
    assert (config.sources["log"], config.sources["grace_s"]) == ("$ROLEKIT_LOG", "--set")


def test_a_role_is_one_role_however_it_is_spelt(tmp_path: Path) -> None:
    write(tmp_path, '[roles.Deliverer]\ninstances = 8\ndomain = "a"\nhosts = ["x", "y"]')
    environ = {"ROLEKIT_DELIVERER__INSTANCES": "9", "ROLEKIT_DELIVERER__DOMAIN": "b"}

    config = load(environ, settings=["Deliverer.instances=10"], folder=tmp_path)

    assert config.for_role("Deliverer") == {
        "instances": "10",
        "domain": "b",
        "hosts": '["x", "y"]',
    }
    assert config.sources["roles.Deliverer.domain"] == "$ROLEKIT_DELIVERER__DOMAIN"


def test_pyproject_serves_where_there_is_no_file_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, '[tool.rolekit]\napp = "b:app"', "pyproject.toml")

    assert load({}, folder=tmp_path).app == "b:app"


def test_a_value_may_lie_in_a_file_of_its_own(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("s3cret\n")

    config = load({"ROLEKIT_PAYMENTS__API_KEY_FILE": str(secret)}, folder=tmp_path)

    assert config.for_role("Payments") == {"api_key": "s3cret"}
    assert "s3cret" not in str(config.rows())


def test_an_unknown_name_warns_with_the_nearest_and_does_not_refuse(tmp_path: Path) -> None:
    environ = {"ROLEKIT_GRACE": "5", "ROLEKIT_PORT": "tcp://10.0.0.1:80"}

    config = load(environ, folder=tmp_path)

    assert config.warnings[0].endswith("Did you mean $ROLEKIT_GRACE_S?")
    assert len(config.warnings) == 2


def test_an_unknown_role_is_named_with_the_nearest(tmp_path: Path) -> None:
    config = load({}, settings=["Deliverr.instances=2"], folder=tmp_path)

    assert config.unknown_roles(["Deliverer", "Front"]) == [
        "Settings name the role Deliverr, which the app does not have. Did you mean Deliverer?"
    ]


@pytest.mark.parametrize(
    ("environ", "settings", "sentence"),
    [
        ({"ROLEKIT_GRACE_S": "soon"}, [], "grace_s is 'soon' ($ROLEKIT_GRACE_S)"),
        ({"ROLEKIT_GRACE_S": "-1"}, [], "0 or more"),
        ({"ROLEKIT_GRACE_S": "inf"}, [], "grace_s is 'inf'"),
        ({"ROLEKIT_LOG": "inof"}, [], "Did you mean info?"),
        ({"ROLEKIT_BROKER": "amqp://u:pw@h/"}, [], "amqp://u:********@h/"),
        ({"ROLEKIT_CONFIG": "/nowhere.toml"}, [], "/nowhere.toml is not there"),
        ({"ROLEKIT_DATABASE_FILE": "/nowhere"}, [], "cannot be read"),
        ({}, ["grace=1"], "Did you mean grace_s?"),
        ({}, ["grace_s"], "has no value"),
        ({"ROLEKIT_HANDLERS": "soon"}, [], "a table is expected"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(
    tmp_path: Path, environ: dict[str, str], settings: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ, settings=settings, folder=tmp_path)

    assert sentence in str(caught.value)
    assert caught.value.fix
    assert "pw" not in str(caught.value)


def test_a_broker_that_is_neither_rabbitmq_nor_the_database_is_refused(tmp_path: Path) -> None:
    environ = {"ROLEKIT_BROKER": "redis://h", "ROLEKIT_DATABASE": "postgresql://h/d"}

    with pytest.raises(ConfigError, match=r"broker is redis://h; amqp:// or amqps://"):
        load(environ, folder=tmp_path)


def test_rabbitmq_beside_a_database_is_taken(tmp_path: Path) -> None:
    environ = {"ROLEKIT_BROKER": "amqp://h", "ROLEKIT_DATABASE": "postgresql://h/d"}

    assert load(environ, folder=tmp_path).broker == "amqp://h"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pw@h:5432/d", "postgresql://me:********@h:5432/d"),
        ("postgresql://me:p@w@h/d", "postgresql://me:********@h/d"),
        ("postgresql://me:p#/?w@h/d", "postgresql://me:********@h/d"),
        ("postgresql://h/d?user=me&password=pw", "postgresql://h/d?user=me&password=********"),
        ("postgresql:///d?host=/tmp/x", "postgresql:///d?host=/tmp/x"),
        ("postgresql://me:pw@[h/d", "postgresql://me:********@[h/d"),
        ("plain", "plain"),
    ],
)
def test_a_shown_url_has_no_password(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_nothing_near_gives_no_suggestion() -> None:
    assert nearest("zzz", ["grace_s"]) == ""


@pytest.mark.parametrize(
    ("database", "pooler", "sentence"),
    [
        ("", "postgresql://u:pw@h:6432/x", "but no database"),
        ("postgresql://h/x", "redis://u:pw@h", "the postgresql:// URL of PgBouncer"),
        ("postgresql://u:pw@h/x", "postgresql://u:pw@h/x", "are both"),
    ],
)
def test_a_pooler_that_cannot_work_is_refused(
    tmp_path: Path, database: str, pooler: str, sentence: str
) -> None:
    environ = {"ROLEKIT_DATABASE": database, "ROLEKIT_POOLER": pooler}

    with pytest.raises(ConfigError, match=sentence) as refused:
        load(environ, folder=tmp_path)

    assert "pw" not in str(refused.value)

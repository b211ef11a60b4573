"""`rolekit deploy compose|swarm|kubernetes`: settings, secrets, files and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rolekit.cli.main import run
from rolekit.config import load
from tests.unit.deployed import APPS, environments, written

KINDS = ["compose", "swarm", "kubernetes"]
pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.timeout(120)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_reads_the_settings_of_here(
    capsys: pytest.CaptureFixture[str], kind: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "rolekit.toml").write_text(
        'log = "debug"\ntraces = "off"\nkeep_sent = true\nbroker = "amqp://a:b@c/"\n'
        'database = "postgresql://a:b@c/"\n[roles.Payments]\nbank = "b$ank ${X}: #1"\n'
        '[handlers."Payments.pay"]\ntimeout_s = 45\n'
    )
    monkeypatch.setenv("ROLEKIT_SHOP__BANNER", "1e3")

    text = written(capsys, kind, "--set", "Shop.bind=127.0.0.1:8080")

    found = environments(kind, text)
    for environment in found.values():
        for variable, file in environment.items():
            if variable.endswith("_FILE"):
                scheme = "amqp" if "BROKER" in variable else "postgresql"
                kept = place / Path(file).name
                kept.write_text(f"{scheme}://there/")
                environment[variable] = str(kept)
    (place / "rolekit.toml").unlink()
    shop, payments = load(found["shop"]), load(found["payments"])
    assert shop.warnings == payments.warnings == ()
    assert (shop.app, shop.log, shop.traces, shop.keep_sent) == (
        f"{APPS}:app",
        "debug",
        None,
        True,
    )
    assert (shop.broker, shop.database) == ("amqp://there/", "postgresql://there/")
    assert shop.for_role("Shop")["bind"] == "0.0.0.0:8080"
    assert shop.for_role("Shop")["banner"] == "1e3"
    assert payments.for_role("Payments")["bank"] == "b$ank ${X}: #1"
    assert payments.handlers == {"Payments.pay": {"timeout_s": "45"}}
    assert "bank" not in shop.for_role("Payments")


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_are_files_and_not_written_down(
    capsys: pytest.CaptureFixture[str], kind: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "key").write_text("open-sesame")
    monkeypatch.setenv("ROLEKIT_PAYMENTS__API_KEY", "open-sesame")
    monkeypatch.setenv("ROLEKIT_DATABASE", "postgresql://a:open-sesame@db/")
    monkeypatch.setenv("ROLEKIT_PAYMENTS__BANK", "https://a:open-sesame@bank.example/")
    monkeypatch.setenv("ROLEKIT_SHOP__BANNER_FILE", str(place / "key"))
    monkeypatch.setenv("ROLEKIT_OTLP", "https://a:open-sesame@traces.example/")

    text = written(capsys, kind)

    assert "sesame" not in text
    found = environments(kind, text)
    assert found["payments"]["ROLEKIT_PAYMENTS__BANK_FILE"] == "/run/secrets/payments_bank"
    assert found["payments"]["ROLEKIT_PAYMENTS__API_KEY_FILE"].endswith("/payments_api_key")
    assert found["shop"]["ROLEKIT_SHOP__BANNER_FILE"] == "/run/secrets/shop_banner"
    assert found["shop"]["ROLEKIT_OTLP_FILE"] == "/run/secrets/otlp"
    assert "ROLEKIT_PAYMENTS__API_KEY_FILE" not in found["shop"]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_roles_asked_for_run(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    text = written(capsys, kind, "--role", "Payments", "--image", "hub.example/shop:2")

    assert list(environments(kind, text)) == ["payments"]
    assert re.findall(r"image: (.*)", text) == ["hub.example/shop:2"]


def test_a_file_is_written_into_a_folder_and_over_no_other(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, name in (
        ("compose", "docker-compose.yml"),
        ("swarm", "shop-stack.yml"),
        ("kubernetes", "shop.yaml"),
        ("systemd", "shop.service"),
    ):
        assert run(["deploy", kind, f"{APPS}:app", "--to", "."]) == 0
        assert f"Written to {name}." in capsys.readouterr().err
        assert run(["deploy", kind, f"{APPS}:app"]) == 0
        assert (place / name).read_text() == capsys.readouterr().out

        (place / name).write_text("mine")
        assert run(["deploy", kind, f"{APPS}:app", "--to", "."]) == 2
        assert f"{name} is there already and is not overwritten." in capsys.readouterr().err
        assert (place / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compose", f"{APPS}:app", "--role", "Shopp"], "no role Shopp. Did you mean Shop?"),
        (["swarm", f"{APPS}:app", "--to", "nowhere"], "cannot be written: No such file or dir"),
        (["compose", f"{APPS}:app", "--image", "a b"], "--image is 'a b', which is no name"),
        (["kubernetes", f"{APPS}:ap"], "has no attribute ap. Did you mean app?"),
        (["kubernetes", "shopp:app"], "There is no module shopp"),
        (["swarm", f"{APPS}:needy"], "Needy.place has no value"),
        (["kubernetes", f"{APPS}:odd"], "Odd has bind = '127.0.0.1:0'"),
        (["compose", f"{APPS}:twins"], "Shop and Twin both listen on port 8000"),
        (
            ["compose", f"{APPS}:named", "--with-servers"],
            "would be called database, as the serv",
        ),
        (["kubernetes", f"{APPS}:long"], "which has 69 characters; Kubernetes takes 63"),
        (["swarm", f"{APPS}:foreign"], "would be called 'größe', which DNS does not take"),
        (["swarm", f"{APPS}:app", "--set", "Shop.instances=-1"], "Shop has instances = -1"),
        (["swarm", f"{APPS}:app", "--set", "Shop.instances=x"], "Shop.instances is 'x'"),
    ],
)
def test_what_cannot_be_deployed_is_a_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["deploy", *arguments]) == 2

    told = capsys.readouterr()
    assert says in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_an_app_that_cannot_be_imported_says_why(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "broken_shop.py").write_text("raise ValueError('no such shop')\n")

    assert run(["deploy", "kubernetes", "broken_shop:app"]) == 1

    assert (
        "Importing broken_shop:app raised ValueError: no such shop." in capsys.readouterr().err
    )

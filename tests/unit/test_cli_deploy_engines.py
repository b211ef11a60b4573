"""`rolekit deploy compose|swarm|kubernetes`: each engine takes it, and holds it tight."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import find_compose
from tests.unit.deployed import environments, objects, pods, read, written

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.timeout(120)]


BANK = "b$$ank $${X}"
"""As Compose writes it back: no variable was put in."""


def has_stack_config() -> bool:
    """Whether Docker's client can check a stack by itself: 23 and newer."""
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(
        ["docker", "stack", "--help"], capture_output=True, text=True, check=False
    )
    return " config " in done.stdout


@pytest.mark.parametrize("options", [[], ["--with-servers", "--broker"]])
def test_compose_takes_the_file(
    capsys: pytest.CaptureFixture[str], place: Path, options: list[str]
) -> None:
    (place / "docker-compose.yml").write_text(
        written(capsys, "compose", *options, "--set", "Payments.bank=b$ank ${X}")
    )

    command = [str(find_compose()), "-f", "docker-compose.yml", "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    read_back = read(done.stdout)
    assert read_back["services"]["payments"]["environment"]["ROLEKIT_PAYMENTS__BANK"] == BANK
    assert {"shop", "payments", "packing"} <= read_back["services"].keys()
    assert read_back["services"]["shop"]["command"][-2:] == ["--role", "Shop"]


def test_a_swarm_takes_the_stack(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    text = written(capsys, "swarm")
    docker = shutil.which("docker")
    asked = [docker or "docker", "stack", "config", "-c", "stack.yml"]
    helps = (
        docker
        and "config"
        in subprocess.run(
            [docker, "stack", "--help"], capture_output=True, text=True, check=False
        ).stdout.split("Commands:")[-1]
    )
    if not helps:  # Docker 20.10: Compose reads the same, but for this limit
        asked = [str(find_compose()), "-f", "stack.yml", "config"]
        text = re.sub(r" +pids: \d+\n", "", text)
    (place / "stack.yml").write_text(text)

    done = subprocess.run(asked, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert read(done.stdout)["services"]["payments"]["deploy"]["replicas"] == 3


@pytest.mark.parametrize("version", ["1.25", "1.37"])
def test_kubernetes_takes_the_objects(capsys: pytest.CaptureFixture[str], version: str) -> None:
    library: Any = importlib.import_module("kubernetes_validate")  # its types are lax

    made = objects(written(capsys, "kubernetes", "--set", "Shop.bind=127.0.0.1:80"))

    for one in made.values():
        library.validate(one, version, strict=True)
    assert list(made) == [
        ("Deployment", "shop-shop"),
        ("Service", "shop-shop"),
        ("Deployment", "shop-payments"),
        ("Deployment", "shop-packing"),
    ]


def test_services_of_compose_are_confined_and_stop_softly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for service in read(written(capsys, "compose", "--set", "grace_s=30"))["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "10001:10001"
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"] == ["CMD", "rolekit", "ps", "--ready"]
        assert service["stop_grace_period"] == "70s"
        assert all(one.startswith("127.0.0.1:") for one in service.get("ports", []))


def test_only_the_servers_have_no_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    file = read(written(capsys, "compose", "--with-servers", "--broker"))

    assert file["networks"] == {"inside": {"internal": True}, "outside": {}}
    for name, service in file["services"].items():
        is_server = name in ("database", "broker")
        assert service["networks"] == (["inside"] if is_server else ["inside", "outside"])
        assert is_server or service["depends_on"].keys() == {"database", "broker"}
        assert service["cap_drop"] == ["ALL"]


def test_without_a_broker_there_is_no_server_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    file = read(written(capsys, "compose", "--with-servers"))

    assert "broker" not in file["services"]
    assert sorted(file["secrets"]) == ["database", "database_password", "payments_api_key"]


def test_what_the_file_says_makes_the_secrets_of_its_servers(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    text = written(capsys, "compose", "--with-servers", "--broker")
    commands = "\n".join(re.findall(r"^#   (?!docker)(.*)$", text, flags=re.MULTILINE))

    subprocess.run(["sh", "-euc", commands], check=True, cwd=place)

    made = {one.name: one.read_text() for one in (place / "secrets").iterdir()}
    assert made.keys() == read(text)["secrets"].keys() - {"payments_api_key"}
    assert "yours to add: payments_api_key." in text
    password = made["database_password"]
    assert re.fullmatch(r"[0-9a-f]{48}", password)
    assert made["database"] == f"postgresql://shop:{password}@database/shop"
    user = dict(line.split(" = ") for line in made["broker_user"].splitlines())
    assert user.keys() == {"default_user", "default_vhost", "default_pass"}
    assert made["broker"] == f"amqp://shop:{user['default_pass']}@broker/shop"
    assert user["default_pass"] != password
    assert {one.stat().st_mode & 0o777 for one in (place / "secrets").iterdir()} == {0o444}
    assert (place / "secrets").stat().st_mode & 0o777 == 0o700


def test_pods_are_confined_and_stop_softly(capsys: pytest.CaptureFixture[str]) -> None:
    made = pods(written(capsys, "kubernetes", "--set", "grace_s=30"))

    for name, pod in made.items():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert container["readinessProbe"]["exec"]["command"] == ["rolekit", "ps", "--ready"]
        leaves_s = 5 if name == "shop-shop" else 0
        assert pod["terminationGracePeriodSeconds"] == 70 + leaves_s
        assert ("lifecycle" in container) == (leaves_s > 0)
        mounted = {one["key"] for one in pod["volumes"][-1]["secret"]["items"]}
        assert ("payments_api_key" in mounted) == (name == "shop-payments")


def test_a_new_pod_is_ready_before_an_old_one_goes(capsys: pytest.CaptureFixture[str]) -> None:
    for (kind, _), one in objects(written(capsys, "kubernetes")).items():
        if kind == "Deployment":
            rolling = {"maxUnavailable": 0, "maxSurge": 1}
            assert one["spec"]["strategy"]["rollingUpdate"] == rolling


def test_a_service_finds_the_pods_of_its_role(capsys: pytest.CaptureFixture[str]) -> None:
    made = objects(written(capsys, "kubernetes"))

    service, deployment = made["Service", "shop-shop"], made["Deployment", "shop-shop"]
    (port,) = service["spec"]["ports"]
    template = deployment["spec"]["template"]
    assert service["spec"]["selector"] == template["metadata"]["labels"]
    assert template["spec"]["containers"][0]["ports"] == [
        {"name": port["targetPort"], "containerPort": port["port"]}
    ]


def test_where_the_control_api_listens_kubernetes_asks_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = written(capsys, "kubernetes", "--set", "control=127.0.0.1:7070")

    (container,) = pods(text)["shop-shop"]["containers"]
    ready = {"path": "/ready", "port": 7070}
    assert container["readinessProbe"]["httpGet"] == ready
    environment = environments("kubernetes", text)["shop"]
    assert environment["ROLEKIT_CONTROL"] == "0.0.0.0:7070"
    assert environment["ROLEKIT_CONTROL_TOKEN_FILE"].endswith("/control_token")


@pytest.mark.parametrize("kind", ["swarm", "kubernetes"])
def test_there_are_as_many_containers_as_instances_but_for_a_rule(
    capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    text = written(capsys, kind, "--set", "Payments.instances=7")

    if kind == "swarm":
        services = read(text)["services"].items()
        replicas = {name: one["deploy"]["replicas"] for name, one in services}
    else:
        made = objects(text).items()
        replicas = {
            name.removeprefix("shop-"): one["spec"]["replicas"]
            for (of, name), one in made
            if of == "Deployment"
        }
    assert replicas == {"shop": 2, "payments": 7, "packing": 1}
    environment = environments(kind, text)
    assert environment["payments"]["ROLEKIT_PAYMENTS__INSTANCES"] == "1"
    assert "ROLEKIT_PACKING__INSTANCES" not in environment["packing"]


def test_memory_is_for_all_instances_of_a_container(capsys: pytest.CaptureFixture[str]) -> None:
    together = read(written(capsys, "compose"))["services"]
    spread = read(written(capsys, "swarm"))["services"]

    assert together["payments"]["mem_limit"] == f"{192 + 3 * 128}m"
    assert together["packing"]["mem_limit"] == f"{192 + 5 * 2 * 400}m"
    assert spread["payments"]["deploy"]["resources"]["limits"]["memory"] == f"{192 + 128}M"

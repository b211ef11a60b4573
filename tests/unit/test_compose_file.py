"""What docker-compose.yml and deploy/ may not do, read off the files: no engine is needed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from deploy import make_secrets
from examples.mailflow.containers import app
from rolekit.cli.dashboard_lock import locked
from rolekit.config import Config, load
from rolekit.wiring.parts import settled

ROOT = Path(__file__).parents[2]
Service = dict[str, Any]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = cast("dict[str, Service]", FILE["services"])
WATCHING = sorted(
    name for name, one in SERVICES.items() if "observability" in one.get("profiles", [])
)
LONG_LIVED = sorted(SERVICES.keys() - {"migrate", "demo"})
ROLEKIT = sorted(name for name, one in SERVICES.items() if one["image"].startswith("mailflow"))
WORKERS = sorted((set(ROLEKIT) & set(LONG_LIVED)) - {"dashboard"})
CONF = (ROOT / "deploy" / "rabbitmq.conf").read_text()
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text.removesuffix("s"))


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_confined_and_limited(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_the_engines_socket_or_a_place_of_the_machine(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, _, rest = volume.partition(":")

        assert source in FILE["volumes"] or (
            source.startswith("./deploy/") and rest[-3:] == ":ro"
        )
    assert not {"pid", "ipc", "network_mode", "devices", "userns_mode"} & SERVICES[name].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_only_the_ways_in_have_a_network_that_leads_out() -> None:
    assert FILE["networks"]["inside"] == FILE["networks"]["watched"] == {"internal": True}
    assert [name for name, one in SERVICES.items() if "outside" in one["networks"]] == [
        "front",
        "smtp",
        "dashboard",
        "jaeger",
        "grafana",
    ]


def test_who_watches_is_asked_for_and_reaches_neither_database_nor_broker() -> None:
    assert WATCHING == ["collector", "grafana", "jaeger", "prometheus"]
    for name in WATCHING:
        assert SERVICES[name]["profiles"] == ["observability"]
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])
    inside = {name for name, one in SERVICES.items() if "inside" in one["networks"]}
    assert inside & set(WATCHING) == {"collector"}


def test_who_watches_reads_the_files_that_are_shipped() -> None:
    def shipped(path: str) -> Any:  # noqa: ANN401 - YAML
        return yaml.safe_load((ROOT / "deploy" / path).read_text())

    collector, prometheus = shipped("collector.yml"), shipped("prometheus.yml")
    pipelines = collector["service"]["pipelines"]
    for one in pipelines.values():
        for part in ("receivers", "processors", "exporters"):
            assert set(one[part]) <= collector[part].keys()
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"] == "0.0.0.0:4318"
    (job,) = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["collector:8889"]}]
    assert collector["exporters"]["prometheus"]["endpoint"] == "0.0.0.0:8889"
    sources = shipped("grafana/provisioning/datasources/rolekit.yml")["datasources"]
    assert {one["url"] for one in sources} == {"http://prometheus:9090", "http://jaeger:16686"}
    for name in WATCHING:
        for volume in SERVICES[name].get("volumes", []):
            source = volume.partition(":")[0]
            assert source in FILE["volumes"] or (ROOT / source).exists()
    (boards,) = shipped("grafana/provisioning/dashboards/rolekit.yml")["providers"]
    place = f"./deploy/grafana/boards:{boards['options']['path']}:ro"
    assert place in SERVICES["grafana"]["volumes"]


def test_no_password_is_written_down_and_each_secret_comes_from_a_file_of_ones_own() -> None:
    text = (ROOT / "docker-compose.yml").read_text()

    assert re.findall(r"://[^\s/]*:[^\s/]*@", text + CONF) == []
    variables = [name for one in SERVICES.values() for name in one.get("environment", {})]
    told = [
        name for name in variables if re.search("PASSWORD|SECRET|TOKEN|BROKER|DATABASE", name)
    ]
    assert {name.rpartition("_")[2] for name in told} == {"FILE"}
    for name, secret in FILE["secrets"].items():
        assert re.fullmatch(r"\$\{MAILFLOW_SECRETS(:\?.*)?\}/" + name, secret["file"])
    assert "Run `make secrets` first" in FILE["secrets"]["admin_password"]["file"]


@pytest.mark.parametrize("name", WORKERS)
def test_what_runs_roles_has_the_least_rights(name: str) -> None:
    assert SERVICES[name]["secrets"] == ["app_database", "app_broker", "control_token"]


@pytest.mark.parametrize("name", WORKERS)
def test_what_runs_roles_can_be_scaled_and_stops_softly(name: str) -> None:
    service = SERVICES[name]
    grace_s = float(service["environment"]["ROLEKIT_GRACE_S"])

    assert "container_name" not in service
    assert "hostname" not in service
    assert any(one.startswith("/run/rolekit:uid=10001,") for one in service["tmpfs"])
    assert seconds(service["stop_grace_period"]) >= grace_s + 5
    assert service["restart"] == "unless-stopped"
    assert service["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_the_dashboard_asks_every_supervisor_needs_a_token_and_only_shows(
    tmp_path: Path,
) -> None:
    dashboard = SERVICES["dashboard"]
    command, environ = dashboard["command"], dashboard["environment"]
    asked = [one for one in command if one.startswith("--supervisor=")]
    make_secrets.make(tmp_path / "secrets")
    token = (tmp_path / "secrets" / "dashboard_token").read_text()

    assert sorted(asked) == [f"--supervisor={name}:7070" for name in WORKERS]
    assert {SERVICES[name]["environment"]["ROLEKIT_CONTROL"] for name in WORKERS} == {
        "0.0.0.0:7070"
    }
    assert not any("7070" in port for one in SERVICES.values() for port in one.get("ports", []))
    assert "--allow-changes" not in command
    assert (
        environ["ROLEKIT_DASHBOARD_TOKEN_FILE"].removeprefix("/run/secrets/")
        in (dashboard["secrets"])
    )
    tls = environ["ROLEKIT_DASHBOARD_CERTIFICATE"]
    settings = Config(dashboard_token=token, dashboard_certificate=tls)
    assert locked("0.0.0.0:8710", settings).token == token
    holders = [name for name, one in SERVICES.items() if "dashboard_token" in str(one)]
    assert holders == ["dashboard"]


def test_tables_and_queues_are_made_when_the_servers_are_healthy() -> None:
    migrate = SERVICES["migrate"]

    assert migrate["depends_on"] == {
        "database": {"condition": "service_healthy"},
        "broker": {"condition": "service_healthy"},
    }
    assert migrate["secrets"] == ["owner_database", "deploy_broker"]
    assert all("test" in SERVICES[name]["healthcheck"] for name in ("database", "broker"))


def test_each_role_of_the_app_runs_in_one_service_and_no_other_is_named() -> None:
    named = [
        argument
        for name in WORKERS
        for option, argument in zip(
            SERVICES[name]["command"], SERVICES[name]["command"][1:], strict=False
        )
        if option == "--role"
    ]

    assert sorted(named) == sorted(role.__name__ for role in app.roles)


@pytest.mark.parametrize("name", WORKERS)
def test_the_settings_of_a_service_are_known(name: str, tmp_path: Path) -> None:
    environ = dict(SERVICES[name]["environment"])
    assert environ.pop("ROLEKIT_OTLP") == "${MAILFLOW_OTLP:-}"
    environ["ROLEKIT_OTLP"] = ""  # as it is when nothing is said
    for variable in [one for one in environ if one.endswith("_FILE")]:
        file = tmp_path / variable
        scheme = "amqp" if "BROKER" in variable else "postgresql"
        file.write_text(f"{scheme}://somewhere/mailflow")
        environ[variable] = str(file)

    config = load(environ, folder=tmp_path)

    assert config.warnings == ()
    assert config.unknown_roles(role.__name__ for role in app.roles) == []
    assert settled(app.plan(), config).handlers


def test_the_image_has_a_user_without_rights_a_health_check_and_rolekit_as_process_1() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    of_name = {stage.split()[2]: stage for stage in stages}
    users = [re.findall(r"^USER (.*)$", stage, re.MULTILINE)[-1:] for stage in stages]

    assert users == [[], *[["10001:10001"]] * (len(stages) - 1)]
    assert 'CMD ["rolekit", "ps", "--ready"]' in of_name["runtime"]
    assert 'ENTRYPOINT ["rolekit"]' in of_name["runtime"]
    assert "pip" not in "".join(of_name[name] for name in of_name if name != "build")
    assert "PIP_" not in "".join(of_name[name] for name in of_name if name != "build")


def test_the_context_of_the_build_has_what_is_copied_and_nothing_secret() -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line[:1] == "!"
    }
    copied = {
        source.split("/")[0]
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }

    assert copied == allowed
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_secrets_are_new_each_time_and_say_the_same_to_both_sides(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        make_secrets.make(folder)
    one, two = ({file.name: file.read_text() for file in each.iterdir()} for each in folders)

    assert set(one) >= set(FILE["secrets"])
    assert all(one[name] != two[name] for name in one)
    assert stat.S_IMODE(folders[0].stat().st_mode) == 0o700
    assert f":{one['app_password']}@" in one["app_database"]
    assert f":{one['owner_password']}@" in one["owner_database"]
    definitions = json.loads(one["broker_definitions"])
    users = {user["name"]: user for user in definitions["users"]}
    assert sorted(users) == ["app", "deploy", "ops"]
    for name, user in users.items():
        password = one[f"{name}_broker"].split(":")[2].partition("@")[0]
        hashed = base64.b64decode(user["password_hash"])
        assert hashlib.sha256(hashed[:4] + password.encode()).digest() == hashed[4:]
        assert password not in one["broker_definitions"]


def test_who_runs_roles_declares_no_queue_on_the_broker_but_those_of_answers() -> None:
    configure, write, read = make_secrets.GRANTS["app"][1]

    assert re.search(configure, "mailflow.@reply.4711")
    assert not re.search(configure, "mailflow.Deliverer.deliver")
    assert re.search(write, "amq.default")
    assert not re.search(write, "amq.topic")
    assert re.search(read, "mailflow.Deliverer.deliver")


def test_secrets_that_are_there_stay_and_the_compose_file_is_told_of_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "deploy").mkdir()
    program = tmp_path / "deploy" / "make_secrets.py"
    program.write_text((ROOT / "deploy" / "make_secrets.py").read_text())
    (tmp_path / ".env").write_text("OTHER=1\n")
    said: list[str] = []
    kept: list[str] = []

    for _ in range(2):
        done = subprocess.run(
            [sys.executable, program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ},
        )
        said.append(done.stdout.splitlines()[0])
        kept.append((tmp_path / "deploy" / "secrets" / "app_password").read_text())

    assert kept[0] == kept[1]
    password = tmp_path / "deploy" / "secrets" / "grafana_password"
    password.unlink()
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert f"Made {password}, which was not there." in done.stdout
    assert len(password.read_text()) >= 32
    assert said[0].startswith("Made the secrets in ")
    assert said[1].endswith(" stay as they are.")
    assert (tmp_path / ".env").read_text() == "OTHER=1\nMAILFLOW_SECRETS=./deploy/secrets\n"


def test_git_and_the_build_leave_secrets_out() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert {"/.env", "/deploy/secrets/"} <= set(ignored)

"""An app as a file of Docker Compose, or as a stack of Docker Swarm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rolekit.cli.deployment import CHECK_S, CHECKS, HOME, READY, USER
from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.cli.deployment import Deployment, Part

Document = dict[str, Any]

DATABASE, BROKER = "database", "broker"
"""Names of servers, and of the secrets with their URLs."""
_OWN_SECRETS = {DATABASE: "database_password", BROKER: "broker_user"}
"""What servers get to know."""
_CONFINED: Document = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    "restart": "unless-stopped",
}
_HOME_MB, _TMP_MB = 1, 64
_TMP = f"/tmp:mode=1777,size={_TMP_MB}m"  # noqa: S108 - the container's own


def compose(deployment: Deployment, *, with_servers: bool) -> Document:
    """Return what `docker compose` runs on one host: a service for each role.

    Args:
        deployment: With all instances of a role in one container.
        with_servers: PostgreSQL, and RabbitMQ where the app uses it, come along.

    Raises:
        ConfigError: Two roles have one port, or a role is called like a server.
    """
    _check_ports(deployment.parts)
    servers = _servers(deployment) if with_servers else {}
    for part in deployment.parts:
        if part.name in servers:
            raise ConfigError(
                f"The role {part.role} would be called {part.name}, as the server is.",
                fix="Leave --with-servers out and run the servers elsewhere, or rename it.",
            )
    roles = {part.name: _service(deployment, part, servers) for part in deployment.parts}
    own = [secret for server, secret in _OWN_SECRETS.items() if server in servers]
    names = [*deployment.secrets, *own]
    document: Document = {"services": {**servers, **roles}}
    if servers:
        document["networks"] = {"inside": {"internal": True}, "outside": {}}
        document["volumes"] = {name: {} for name in servers}
    document["secrets"] = {name: {"file": f"./secrets/{name}"} for name in names}
    return document


def swarm(deployment: Deployment) -> Document:
    """Return what `docker stack deploy` runs on a swarm: as many containers as instances.

    Raises:
        ConfigError: Two roles have one port.
    """
    _check_ports(deployment.parts)
    names = deployment.secrets
    return {
        "version": "3.9",
        "services": {part.name: _task(deployment, part) for part in deployment.parts},
        "secrets": {
            name: {"external": True, "name": f"{deployment.name}_{name}"} for name in names
        },
    }


def head_of_compose(deployment: Deployment, *, with_servers: bool) -> list[str]:
    """Return what stands above it: how it is started, and where its secrets come from."""
    lines = [
        f"{deployment.name}, a container for each role; `rolekit deploy compose` wrote it.",
        "",
        "  docker compose up -d",
        "",
    ]
    if not with_servers:
        names = ", ".join(deployment.secrets)
        return [*lines, f"Secrets are files in ./secrets, which user {USER} can read: {names}."]
    name = deployment.name
    made = [
        "umask 077; mkdir secrets; cd secrets",
        "password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \\n'; }",
        "made=$(password); printf %s $made > database_password",
        f"printf %s postgresql://{name}:$made@{DATABASE}/{name} > database",
    ]
    if BROKER in deployment.secrets:
        made += [
            "made=$(password)",
            f"printf %s amqp://{name}:$made@{BROKER}/{name} > broker",
            f"printf 'default_user = {name}\\ndefault_vhost = {name}\\n' > broker_user",
            "printf 'default_pass = %s\\n' $made >> broker_user",
        ]
    made.append("chmod 444 *")
    others = [one for one in deployment.secrets if one not in (DATABASE, BROKER)]
    rest = [f"These are yours to add: {', '.join(others)}."] if others else []
    return [*lines, "Before the first start, once:", "", *(f"  {one}" for one in made), *rest]


def head_of_swarm(deployment: Deployment) -> list[str]:
    """Return what stands above it: how it is started, and where its secrets come from."""
    name = deployment.name
    made = [f"  docker secret create {name}_{one} -" for one in deployment.secrets]
    return [
        f"{name} on a swarm; `rolekit deploy swarm` wrote it.",
        "",
        f"  docker stack deploy -c {name}-stack.yml {name}",
        "",
        "Its secrets are made before, each from standard input:",
        "",
        *made,
    ]


def _service(deployment: Deployment, part: Part, servers: Document) -> Document:
    made: Document = {
        **_common(deployment, part),
        **_CONFINED,
        "tmpfs": [
            f"{HOME}:uid={USER},gid={USER},mode=0700,size={_HOME_MB}m",
            _TMP,
        ],
        "mem_limit": f"{part.memory_mb}m",
        "pids_limit": part.pids,
    }
    if part.port is not None:
        made["ports"] = [f"127.0.0.1:{part.port}:{part.port}"]
    if servers:
        made["networks"] = ["inside", "outside"]
        made["depends_on"] = {name: {"condition": "service_healthy"} for name in servers}
    return made


def _task(deployment: Deployment, part: Part) -> Document:
    made: Document = {
        **_common(deployment, part),
        "read_only": True,
        "cap_drop": ["ALL"],
        "volumes": [_memory(HOME, _HOME_MB), _memory("/tmp", _TMP_MB)],  # noqa: S108 - the container's own
        "deploy": {
            "replicas": part.replicas,
            # The new one is ready before the old one is told to stop.
            "update_config": {
                "order": "start-first",
                "parallelism": 1,
                "failure_action": "rollback",
            },
            "rollback_config": {"order": "start-first", "parallelism": 1},
            "restart_policy": {"condition": "any", "delay": "5s"},
            "resources": {"limits": {"memory": f"{part.memory_mb}M", "pids": part.pids}},
        },
    }
    if part.port is not None:
        made["ports"] = [f"{part.port}:{part.port}"]
    return made


def _common(deployment: Deployment, part: Part) -> Document:
    return {
        "image": deployment.image,
        "entrypoint": ["rolekit"],
        "command": part.arguments,
        "user": f"{USER}:{USER}",
        "environment": part.variables,
        "secrets": list(part.secrets),
        "healthcheck": {
            "test": ["CMD", *READY],
            "interval": f"{CHECK_S}s",
            "timeout": f"{CHECK_S}s",
            "retries": CHECKS,
            "start_period": f"{part.ready_s}s",
        },
        # More than ROLEKIT_GRACE_S: what is in hand is finished, or handed back.
        "stop_grace_period": f"{deployment.stop_s}s",
    }


def _memory(target: str, size_mb: int) -> Document:
    return {"type": "tmpfs", "target": target, "tmpfs": {"size": size_mb << 20}}


def _check_ports(parts: Sequence[Part]) -> None:
    """See that each port of the host is one role's.

    Raises:
        ConfigError: One is not.
    """
    taken: dict[int, str] = {}
    for part in parts:
        if part.port is None:
            continue
        if part.port in taken:
            raise ConfigError(
                f"{taken[part.port]} and {part.role} both listen on port {part.port}; one "
                "host has it once.",
                fix=f"Give one another: --set {part.role}.bind=0.0.0.0:{part.port + 1}.",
            )
        taken[part.port] = part.role


def _servers(deployment: Deployment) -> Document:
    """Return the servers of docker-compose.yml, each with one user, who may do everything."""
    made = {DATABASE: _database(deployment.name)}
    if BROKER in deployment.secrets:
        made[BROKER] = _broker()
    return made


def _database(name: str) -> Document:
    return {
        "image": "postgres:18-bookworm",
        "command": ["postgres", "-c", "max_connections=500", "-c", "shared_buffers=256MB"],
        "user": "postgres",
        "environment": {
            "POSTGRES_DB": name,
            "POSTGRES_USER": name,
            "POSTGRES_PASSWORD_FILE": f"/run/secrets/{_OWN_SECRETS[DATABASE]}",
            "POSTGRES_INITDB_ARGS": "--auth=scram-sha-256 --data-checksums",
            "POSTGRES_HOST_AUTH_METHOD": "scram-sha-256",
        },
        "secrets": [_OWN_SECRETS[DATABASE]],
        "healthcheck": _healthcheck(["CMD", "pg_isready", "-q", "-h", "127.0.0.1", "-d", name]),
        "stop_signal": "SIGINT",
        "stop_grace_period": "60s",
        **_CONFINED,
        "volumes": [f"{DATABASE}:/var/lib/postgresql"],
        "tmpfs": ["/run/postgresql:mode=1777,size=1m", _TMP],
        "mem_limit": "1536m",
        "pids_limit": 600,
        "shm_size": "256m",
        "networks": ["inside"],
    }


_ON_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"


def _broker() -> Document:
    own = _OWN_SECRETS[BROKER]
    listens = "exec 3<>/dev/tcp/127.0.0.1/5672"
    return {
        "image": "rabbitmq:4",
        "user": "rabbitmq",
        # Queues belong to the name of the node, so it must not change with the container.
        "environment": {
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ON_LOOPBACK,
        },
        "secrets": [{"source": own, "target": "/etc/rabbitmq/conf.d/20-user.conf"}],
        "healthcheck": _healthcheck(["CMD", "timeout", "4", "bash", "-c", listens]),
        "stop_grace_period": "60s",
        **_CONFINED,
        "volumes": [f"{BROKER}:/var/lib/rabbitmq"],
        "tmpfs": ["/var/log/rabbitmq:size=16m", _TMP],
        "mem_limit": "1g",
        "pids_limit": 400,
        "networks": ["inside"],
    }


def _healthcheck(test: list[str]) -> Document:
    return {
        "test": test,
        "interval": "5s",
        "timeout": "5s",
        "retries": 12,
        "start_period": "60s",
    }

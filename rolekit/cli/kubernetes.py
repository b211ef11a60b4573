"""An app as objects of Kubernetes: a Deployment for each role, a Service where it listens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rolekit.cli.deployment import (
    CHECK_S,
    CHECKS,
    HOME,
    MOST_CHARACTERS,
    READY,
    SECRETS,
    USER,
)
from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from rolekit.cli.deployment import Deployment, Part

Document = dict[str, Any]

_ANSWERS = ("sh", "-c", "rolekit ps --ready; test $? -ne 2")
"""Whether its supervisor answers: what is not ready is mended inside."""
_ANSWERS_S = 2 * CHECK_S
_STARTING_EVERY_S = 5
_LEAVE_S = 5
"""Until no new connections come: endpoints are told while a container is asked to stop."""
_FREE_PORTS = 1024
_READ_BY_GROUP = 0o440


def kubernetes(deployment: Deployment) -> list[Document]:
    """Return what `kubectl apply` takes: an instance a container, but for roles with a rule.

    A role that scales itself has one container, and its supervisor follows the rule in it.
    """
    return [document for part in deployment.parts for document in _objects(deployment, part)]


def head_of_kubernetes(deployment: Deployment) -> list[str]:
    """Return what stands above it: how it is applied, and where its secrets come from."""
    name = deployment.name
    files = [f"--from-file={one}" for one in deployment.secrets]
    return [
        f"{name} on Kubernetes; `rolekit deploy kubernetes` wrote it.",
        "",
        f"  kubectl apply -f {name}.yaml",
        "",
        "Its secrets are made before, from files of these names:",
        "",
        f"  kubectl create secret generic {name} {' '.join(files)}",
    ]


def _objects(deployment: Deployment, part: Part) -> list[Document]:
    made = [_deployment(deployment, part)]
    if part.port is not None:
        made.append(_service(deployment, part, part.port))
    return made


def _deployment(deployment: Deployment, part: Part) -> Document:
    labels = _labels(deployment, part)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": _name(deployment, part), "labels": labels},
        "spec": {
            "replicas": part.replicas,
            "selector": {"matchLabels": labels},
            # A new one is ready before an old one is told to stop.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod(deployment, part)},
        },
    }


def _pod(deployment: Deployment, part: Part) -> Document:
    security: Document = {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if part.port is not None and part.port < _FREE_PORTS:
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    leaves_s = 0 if part.port is None else _LEAVE_S
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": deployment.stop_s + leaves_s,
        "securityContext": security,
        "containers": [_container(deployment, part)],
        "volumes": [
            {"name": "home", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {
                "name": "secrets",
                "secret": {
                    "secretName": deployment.name,
                    "defaultMode": _READ_BY_GROUP,
                    "items": [{"key": one, "path": one} for one in part.secrets],
                },
            },
        ],
    }


def _container(deployment: Deployment, part: Part) -> Document:
    made: Document = {
        "name": part.name,
        "image": deployment.image,
        "command": ["rolekit"],
        "args": part.arguments,
        "env": [{"name": name, "value": value} for name, value in part.variables.items()],
        **_probes(deployment, part),
        "resources": {
            "requests": {"cpu": "100m", "memory": f"{part.memory_mb // 2}Mi"},
            "limits": {"memory": f"{part.memory_mb}Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
            {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
        ],
    }
    if part.port is not None:
        made["ports"] = [{"name": _port_name(part), "containerPort": part.port}]
        made["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(_LEAVE_S)]}}}
    return made


def _probes(deployment: Deployment, part: Part) -> Document:
    if deployment.control_port is None:
        ready: Document = {"exec": {"command": list(READY)}}
    else:
        ready = {"httpGet": {"path": "/ready", "port": deployment.control_port}}
    ready["timeoutSeconds"] = CHECK_S
    tries = math.ceil(part.ready_s / _STARTING_EVERY_S)
    return {
        "startupProbe": {
            **ready,
            "periodSeconds": _STARTING_EVERY_S,
            "failureThreshold": tries,
        },
        "readinessProbe": {**ready, "periodSeconds": CHECK_S, "failureThreshold": CHECKS},
        "livenessProbe": {
            "exec": {"command": list(_ANSWERS)},
            "timeoutSeconds": _ANSWERS_S,
            "periodSeconds": _ANSWERS_S,
            "failureThreshold": CHECKS,
        },
    }


def _service(deployment: Deployment, part: Part, port: int) -> Document:
    labels = _labels(deployment, part)
    name = _port_name(part)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _name(deployment, part), "labels": labels},
        "spec": {
            "selector": labels,
            "ports": [{"name": name, "port": port, "targetPort": name}],
        },
    }


def _port_name(part: Part) -> str:
    return "http" if part.is_web else "tcp"


def _name(deployment: Deployment, part: Part) -> str:
    """Name the objects of a role.

    Raises:
        ConfigError: It is too long for the name of a Service.
    """
    name = f"{deployment.name}-{part.name}"
    if len(name) > MOST_CHARACTERS:
        raise ConfigError(
            f"{part.role} would be called {name!r}, which has {len(name)} characters; "
            f"Kubernetes takes {MOST_CHARACTERS}.",
            fix="Give the app or the role a shorter name.",
        )
    return name


def _labels(deployment: Deployment, part: Part) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": deployment.name,
        "app.kubernetes.io/component": part.name,
    }

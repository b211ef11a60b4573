"""Make the secrets of docker-compose.yml: `make secrets`, or `python3 deploy/make_secrets.py`.

Writes deploy/secrets/, and .env, which tells the compose file where they are. What is there
already stays as it is: the volumes were made with it. Needs nothing but the standard library.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
from pathlib import Path

APP = "mailflow"
VHOST = "mailflow"
OWN = rf"^{APP}\."
PUBLISH = rf"^({APP}\..*|amq\.default)$"
ASKED = rf"^{APP}\.@reply\."
"""Whoever asks and waits for the answer makes a queue for it."""
GRANTS: dict[str, tuple[str, tuple[str, str, str]]] = {
    "deploy": ("", (OWN, PUBLISH, OWN)),
    "app": ("", (ASKED, PUBLISH, OWN)),
    "ops": ("monitoring", ("^$", "^$", "^$")),
}
"""Users of the broker: tags, and what they may configure, write and read."""
CONNECTIONS = 1000
QUEUES = 200


def main() -> int:
    """Make what is missing; say where it is."""
    root = Path(__file__).resolve().parent.parent
    folder = root / "deploy" / "secrets"
    if (folder / "broker_definitions").exists():
        print(f"The secrets in {folder} stay as they are.")
        for name in add(folder):
            print(f"Made {folder / name}, which was not there.")
    else:
        make(folder)
        print(f"Made the secrets in {folder}; keep it from others, and in no repository.")
    variables = root / ".env"
    line = "MAILFLOW_SECRETS=./deploy/secrets"
    there = variables.read_text(encoding="utf-8").splitlines() if variables.exists() else []
    if line not in there:
        variables.write_text("\n".join([*there, line, ""]), encoding="utf-8")
        print(f"{variables} names it for docker compose.")
    return 0


def make(folder: Path) -> None:
    """Make new secrets in a folder of their own."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in (_alone() | _secrets()).items():
        _write(folder / name, text)


def add(folder: Path) -> list[str]:
    """Make those that an older folder has not, where nothing else says the same; name them."""
    missing = {name: text for name, text in _alone().items() if not (folder / name).exists()}
    for name, text in missing.items():
        _write(folder / name, text)
    return list(missing)


def _write(file: Path, text: str) -> None:
    # Containers read them as users of their own; the folder keeps others out.
    file.write_text(text, encoding="utf-8")
    file.chmod(0o444)


def _alone() -> dict[str, str]:
    """Give the secrets that stand for themselves."""
    return {
        "grafana_password": secrets.token_urlsafe(24),
        "control_token": secrets.token_urlsafe(32),
        "dashboard_token": secrets.token_urlsafe(32),
    }


def _secrets() -> dict[str, str]:
    """Give all of them; the last one's presence says that all are there."""
    owner, app, admin = (secrets.token_urlsafe(24) for _ in range(3))
    users = {name: secrets.token_urlsafe(24) for name in GRANTS}
    database = f"@database:5432/{APP}"
    return {
        "admin_password": admin,
        "owner_password": owner,
        "app_password": app,
        "owner_database": f"postgresql://mailflow_owner:{owner}{database}",
        "app_database": f"postgresql://mailflow_app:{app}{database}",
        **{
            f"{name}_broker": f"amqp://{name}:{password}@broker:5672/{VHOST}"
            for name, password in users.items()
        },
        "broker_definitions": json.dumps(_definitions(users), indent=1),
    }


def _definitions(users: dict[str, str]) -> dict[str, object]:
    """Write down users and their rights, as RabbitMQ reads them at its start."""
    limits = {"max-connections": CONNECTIONS, "max-queues": QUEUES}
    return {
        "users": [
            {
                "name": name,
                "password_hash": _hashed(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": GRANTS[name][0],
                "limits": {},
            }
            for name, password in users.items()
        ],
        "vhosts": [{"name": VHOST}],
        "permissions": [
            {
                "user": name,
                "vhost": VHOST,
                "configure": grant[0],
                "write": grant[1],
                "read": grant[2],
            }
            for name, (_, grant) in GRANTS.items()
        ],
        "parameters": [
            {"vhost": VHOST, "component": "vhost-limits", "name": "limits", "value": limits}
        ],
    }


def _hashed(password: str) -> str:
    """Hash a password as RabbitMQ does: salt, and SHA-256 of salt and password."""
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return base64.b64encode(salt + digest).decode()


if __name__ == "__main__":
    sys.exit(main())

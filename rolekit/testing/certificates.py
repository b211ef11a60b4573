"""Certificates for servers of tests, made by the `openssl` program in some 100 ms.

authority ─┬─ server: localhost, 127.0.0.1
           └─ client
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

DAYS = "2"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_LEAF = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_EXTENSIONS = {
    "server": f"{_LEAF}extendedKeyUsage = serverAuth\n"
    "subjectAltName = DNS:localhost, IP:127.0.0.1\n",
    "client": f"{_LEAF}extendedKeyUsage = clientAuth\n",
}
_CONFIG = """\
[req]
distinguished_name = name
x509_extensions = authority
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM form; keys without a password."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, and a server and a client that it vouches for.

    Raises:
        ConfigError: There is no `openssl` on this machine.
        Unavailable: It failed; what it said is in the text.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ConfigError(
            "Certificates for tests need the openssl program.",
            fix="Install it: apt-get install openssl.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openssl.cnf").write_text(_CONFIG)
    run = _Runner(openssl, folder)
    run("req", "-x509", *_KEY, "-days", DAYS, "-subj", "/CN=rolekit test authority",
        "-keyout", "authority.key", "-out", "authority.pem")  # fmt: skip
    for name, extensions in _EXTENSIONS.items():
        (folder / f"{name}.ext").write_text(extensions)
        run("req", "-new", *_KEY, "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem",
            "-CAkey", "authority.key", "-CAcreateserial", "-days", DAYS,
            "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip
    return Certificates(
        authority=folder / "authority.pem",
        server=folder / "server.pem",
        server_key=folder / "server.key",
        client=folder / "client.pem",
        client_key=folder / "client.key",
    )


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs openssl in a folder, with the configuration there."""

    program: str
    folder: Path

    def __call__(self, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603 - the machine's openssl, arguments from above
            [self.program, *arguments],
            cwd=self.folder,
            env={"OPENSSL_CONF": str(self.folder / "openssl.cnf")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unavailable(f"openssl {arguments[0]} failed: {done.stderr.strip()}")

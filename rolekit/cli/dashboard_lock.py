"""What keeps a dashboard that others can reach from them: a token, and TLS.

Source: RELIABILITY T7.
"""

from __future__ import annotations

import secrets
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from rolekit.config import Config

ELSEWHERE = "elsewhere"
_TOKEN_BYTES = 32
_LOOPBACK = ("127.", "localhost:", "[::1]:")


@dataclass(frozen=True, slots=True)
class Lock:
    """How a dashboard is locked.

    Attributes:
        token: That is needed to look; empty: none is.
        certificate: PEM file; empty: it speaks plain HTTP.
        key: PEM file; empty: the key is with the certificate.
    """

    token: str = ""
    certificate: str = ""
    key: str = ""


def locked(bind: str, config: Config) -> Lock:
    """Say how a dashboard at this address is locked.

    Raises:
        ConfigError: It could be reached from elsewhere, and there is no good token, or no
            TLS; or the certificate cannot be used.
    """
    certificate, key = config.dashboard_certificate, config.dashboard_key
    if certificate == ELSEWHERE:
        certificate = key = ""
    elif certificate or key:
        _check(certificate, key)
    if bind.startswith(_LOOPBACK):
        return Lock("", certificate, key)
    token = config.dashboard_token or config.control_token
    if len(token.encode()) < _TOKEN_BYTES:
        raise ConfigError(
            f"A dashboard at {bind} can be reached from elsewhere, so it needs a token of "
            f"{_TOKEN_BYTES} bytes or more.",
            fix=f"Set ROLEKIT_DASHBOARD_TOKEN, for example to {secrets.token_urlsafe(32)}; or "
            "listen at 127.0.0.1.",
        )
    if not config.dashboard_certificate:
        raise ConfigError(
            f"A dashboard at {bind} can be reached from elsewhere, so its token must not "
            "travel in the clear.",
            fix="Set ROLEKIT_DASHBOARD_CERTIFICATE and ROLEKIT_DASHBOARD_KEY to PEM files; or "
            f"the first to {ELSEWHERE}, where TLS ends in front of it.",
        )
    return Lock(token, certificate, key)


def _check(certificate: str, key: str) -> None:
    if not certificate:
        raise ConfigError(
            "dashboard_key is set, and dashboard_certificate is not.",
            fix="Set ROLEKIT_DASHBOARD_CERTIFICATE to the PEM file that belongs to it.",
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The certificate of the dashboard, {certificate}, cannot be used with its key, "
            f"{key or 'in the same file'}: {error}.",
            fix="Name PEM files that belong together and that this user may read; the key "
            "without a password.",
        ) from error

"""`rolekit schema`: an app as documents for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from rolekit.cli.console import out, say
from rolekit.cli.options import (
    AppArgument,
    AppOption,
    ConfigOption,
    SetOption,
    loaded,
    settings,
)
from rolekit.errors import ConfigError

# What makes documents is imported where it is used: `rolekit ps` should not wait for it.

_OpenApi = Annotated[
    bool, typer.Option("--openapi", help="Of the WebRoles' routes, as OpenAPI 3.1.")
]
_Role = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="With --openapi: only of this WebRole.")
]
_Yaml = Annotated[bool, typer.Option("--yaml", help="As YAML instead of JSON.")]
_Output = Annotated[
    str, typer.Option("--output", metavar="FILE", help="Where to write it [standard output].")
]
_Release = Annotated[
    str, typer.Option("--release", metavar="TEXT", help="Version of the app, for the document.")
]


def schema(  # noqa: PLR0913 - each has a default and is named
    argument: AppArgument = "",
    *,
    openapi: _OpenApi = False,
    role: _Role = "",
    yaml: _Yaml = False,
    output: _Output = "",
    release: _Release = "0",
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Describe an app to other programs: its queues as AsyncAPI, or its routes as OpenAPI."""
    if role and not openapi:
        raise ConfigError(
            "--role goes with --openapi; the queues of an app are described together.",
            fix="Add --openapi, or leave --role out.",
        )
    found = loaded(settings(argument or app, sets, config_file))
    from rolekit import schema as documents  # noqa: PLC0415 - see above

    if openapi:
        made = documents.openapi(found, release=release, role=role)
    else:
        made = documents.asyncapi(found, release=release)
    text = documents.as_yaml(made) if yaml else _as_json(made)
    if output:
        _write(Path(output), text)
    else:
        out(text)


def _as_json(document: object) -> str:
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.",
            fix="Name a file in a folder that is there and yours: --output schema.json.",
        ) from error
    say(f"Written to {path}.")

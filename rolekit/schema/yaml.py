"""Documents as YAML that readers of 1.1 and of 1.2 take for the same."""

from __future__ import annotations

import importlib
import re
from typing import Any

from rolekit.errors import ConfigError

_NUMBER = re.compile(r"([-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|0o[0-7]+)\Z")
"""Numbers of 1.2. PyYAML writes 1.1, which has text where 1.2 has 1e3, 08 and 0o7.

Source: YAML 1.2.2, 10.3.2 "Tag Resolution".
"""


def as_yaml(document: object) -> str:
    """Write a document of what JSON has: lists, objects with text as names, plain values.

    Raises:
        ConfigError: PyYAML is not installed.
    """
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise ConfigError(
            "Writing YAML needs PyYAML, which is not installed.",
            fix="pip install 'rolekit[yaml]'. Without --yaml, rolekit schema writes JSON.",
        ) from None
    dumper: Any = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": _write_out})
    dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))
    made: str = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True)
    return made.rstrip("\n")


def _write_out(*_: object) -> bool:
    """Let nothing become an anchor: not every reader of documents knows them."""
    return True

"""Settings from four places, last wins: code, `rolekit.toml`, environment, `--set`.

Each value remembers where it came from, so `rolekit config` can say it.
"""

from rolekit.config.sources import level, load, share
from rolekit.config.values import Config, LogFormat, is_secret, nearest, redact

__all__ = ["Config", "LogFormat", "is_secret", "level", "load", "nearest", "redact", "share"]

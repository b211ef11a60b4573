"""The files of the page, read once: they come with the package and do not change."""

from __future__ import annotations

from importlib.resources import files

FILES = {
    one.name: one.read_bytes()
    for one in (files("rolekit.dashboard") / "web").iterdir()
    if one.is_file()
}

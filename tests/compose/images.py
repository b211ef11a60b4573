"""The images that docker-compose.yml names, or stand-ins where none can be pulled."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.compose.engine import Failed
from tests.engine import base_tarball

if TYPE_CHECKING:
    from tests.compose.engine import Docker

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PULLED = ("rabbitmq:4", "postgres:18-bookworm", "python:3.13-slim-bookworm")
STAND_INS = ("rabbitmq", "postgres", "python")
OVERRIDE = HERE / "stand_ins.yml"


def have_images(docker: Docker) -> list[Path]:
    """Pull the images, or build what stands in for them; return what the compose file needs."""
    for image in PULLED:
        if not docker.succeeds("image", "inspect", image) and not docker.succeeds(
            "pull", image
        ):
            docker.say(f"{image} cannot be pulled; Debian's packages stand in for all of them")
            _build_stand_ins(docker)
            return [OVERRIDE]
    return []


def _build_stand_ins(docker: Docker) -> None:
    docker.run("tag", docker.run("import", str(base_tarball())), "rolekit-debian")
    with tempfile.TemporaryDirectory(prefix="rolekit-stand-ins-") as folder:
        context = Path(folder) / "stand_ins"
        shutil.copytree(HERE / "stand_ins", context)
        _download(context / "python" / "wheels")
        builds = [
            docker.begin(
                *("build", "--quiet", "--network", "host"),
                *("--tag", f"rolekit-stand-in-{name}", str(context / name)),
            )
            for name in STAND_INS
        ]
        for build in builds:
            docker.end(build)


def _download(folder: Path) -> None:
    """Get mailflow's packages from wherever this machine gets its own."""
    packages = [".[mail,otlp]", "hatchling>=1.26"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder,
         "-c", "requirements-dev.lock", *packages],
        check=False, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"pip cannot get mailflow's packages: {done.stderr}")
    for built in folder.glob("rolekit-*"):
        built.unlink()

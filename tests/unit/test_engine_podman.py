"""What an engine is told of a container, by what engine it is."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from rolekit.guest import Container, Exec, Guest, Limits
from rolekit.guest.container import order_for
from rolekit.guest.engine import Engine


class Fake:
    """An engine that takes note of what it is to create."""

    def __init__(self, component: str) -> None:
        self._component = component
        self.told: dict[str, Any] = {}
        self.profile: dict[str, Any] = {}

    async def version(self, _: web.Request) -> web.Response:
        """Say which engine it is."""
        about = {"ApiVersion": "1.41", "Components": [{"Name": self._component}]}
        return web.json_response(about)

    async def image(self, _: web.Request) -> web.Response:
        """Have every image."""
        return web.json_response({"Id": "sha256:0"})

    async def create(self, request: web.Request) -> web.Response:
        """Take note."""
        self.told = await request.json()
        for option in self.told["HostConfig"]["SecurityOpt"]:
            if option.startswith("seccomp="):  # an engine reads it now
                self.profile = json.loads(Path(option.partition("=")[2]).read_text())
        return web.json_response({"Id": "made"}, status=201)

    async def serve(self, socket: Path) -> web.AppRunner:
        """Answer on a socket."""
        app = web.Application()
        app.router.add_get("/{tail:.*version}", self.version)
        app.router.add_get("/{tail:.*/images/.*}", self.image)
        app.router.add_post("/{tail:.*/containers/create}", self.create)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(socket)).start()
        return runner


@pytest.mark.anyio
@pytest.mark.parametrize("component", ["Engine", "Podman Engine"])
async def test_podman_is_told_what_its_own_defaults_do_not_hold(
    component: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Role:
        guest = Guest(Exec("true"), host=Container(image="any"), limits=Limits(cpu_s=3))

    guest = cast("Guest[object]", Role.guest)
    order = order_for("Role", guest, Container(image="any"))
    fake = Fake(component)
    runner = await fake.serve(tmp_path / "engine.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    try:
        async with Engine({}) as engine:
            await engine.create(order)
    finally:
        await runner.cleanup()

    limits = {one["Name"]: one for one in fake.told["HostConfig"]["Ulimits"]}
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    assert limits["cpu"] == {"Name": "cpu", "Soft": 3, "Hard": 4}
    assert "no-new-privileges" in fake.told["HostConfig"]["SecurityOpt"]
    assert ("nproc" in limits) is (component == "Podman Engine")
    assert bool(fake.profile) is (component == "Podman Engine")
    if fake.profile:
        assert hard == resource.RLIM_INFINITY or 0 < limits["nproc"]["Hard"] <= hard
        denied = [name for rule in fake.profile["syscalls"] for name in rule["names"]]
        assert {"unshare", "setns", "keyctl", "clone", "clone3", "ioctl"} <= set(denied)

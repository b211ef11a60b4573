"""`make compose-test`: the real containers under load, kills and a restart of the broker.

Then there are 20 workers, by `--scale` alone.

Ends with the demo's line: what was sent, and that nothing of it was lost, repeated or
reordered. Takes an engine where there is one, and starts one where it may.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import smtplib
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from deploy import make_secrets
from examples.mailflow.samples.odd import GTUBE
from tests.compose.engine import Docker, Failed, engine
from tests.compose.images import have_images
from tests.compose.mailflow import Mailflow
from tests.engine import NoEngine

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Generator

FRONT = "http://127.0.0.1:8025"
SMTP = ("127.0.0.1", 2525)
BOARD = "http://127.0.0.1:8710"
OK = 200
UNKNOWN = 401
ACCEPTED = 250
WORKERS, MANY = 4, 20
KILLED = 3
CHECKED = """
import resource, subprocess
subprocess.run(["rolekit", "ps", "--ready"], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{used.ru_utime + used.ru_stime:.2f}")
"""
CLOSED = "select count(*) from mail.report"
JUNK_TO = "person-001@mail.example"
SUBJECT = "An offer that every filter must refuse"
JUNK = f"From: a@far.example\r\nSubject: {SUBJECT}\r\n\r\n{GTUBE}\r\n"


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="make compose-test", description=__doc__)
    parser.add_argument("--copies", type=int, default=1000, help="copies to send, about")
    parser.add_argument("--keep", action="store_true", help="leave the containers as they are")
    given = parser.parse_args()
    try:
        with engine() as docker:
            line = _run(docker, given.copies, keeps=given.keep)
    except (NoEngine, Failed, httpx.HTTPError, smtplib.SMTPException) as error:
        print(f"The containers failed: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(line)  # noqa: T201  the line that scripts read
    return 0


def _run(docker: Docker, copies: int, *, keeps: bool) -> str:
    overrides = have_images(docker)
    docker.say("images are there")
    with _secrets() as secrets:
        mailflow = Mailflow(docker, overrides, secrets)
        try:
            docker.compose("build")
            docker.say("mailflow is built")
            mailflow.up("--scale", f"worker={WORKERS}")
            docker.say(f"all containers are healthy, {WORKERS} of them workers")
            line = _send_and_break(mailflow, copies)
            _scale(mailflow)
            _send_junk(mailflow)
            _look_at_archive(docker)
            _look_at_dashboard(docker, secrets)
            mailflow.until(mailflow.is_healthy, "all containers are healthy again")
        finally:
            if not keeps:
                mailflow.down()
                docker.say("everything is removed, volumes too")
    return line


@contextlib.contextmanager
def _secrets() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="rolekit-secrets-") as folder:
        make_secrets.make(Path(folder))
        yield Path(folder)


def _send_and_break(mailflow: Mailflow, copies: int) -> str:
    """Let the demo send, and break things while mail is on its way; return its last line.

    Raises:
        Failed: The demo found something wrong, or nothing was under way when it broke.
    """
    docker = mailflow.docker
    options = ["--copies", str(copies), "--people", "100"]
    demo = docker.begin_compose(
        *("run", "--rm", "demo", "--once", "--front", "http://front:8025"),
        *("--smtp", "smtp:2525", *options),
    )
    _until_closed(mailflow, demo, copies // 20)
    mailflow.kill9(mailflow.containers("worker")[:KILLED])
    docker.say(f"killed {KILLED} workers, at {mailflow.count(CLOSED)} of {copies} copies")
    _until_closed(mailflow, demo, copies // 10)
    at = mailflow.count(CLOSED)
    docker.compose("restart", "-t", "10", "broker")
    docker.say(f"restarted the broker, at {at} of {copies} copies")
    said = docker.end(demo).strip()
    print(said)  # noqa: T201  the report, for whoever watches
    restarts = mailflow.restarts("worker")
    docker.say(f"the demo has ended; workers were started again {restarts} times")
    if restarts < KILLED:  # more: one that began to start while the broker was away
        raise Failed(f"{restarts} restarts of workers, not {KILLED}.")
    return said.splitlines()[-1]


def _until_closed(mailflow: Mailflow, demo: subprocess.Popen[str], copies: int) -> None:
    while mailflow.count(CLOSED) < copies:
        if demo.poll() is not None:
            raise Failed(f"The demo ended before anything broke: {mailflow.docker.end(demo)}")
        time.sleep(0.2)


def _scale(mailflow: Mailflow) -> None:
    """Have many workers, each found healthy by its own check; say what a check costs."""
    mailflow.up("--scale", f"worker={MANY}")
    workers = mailflow.containers("worker")
    if len(workers) != MANY:
        raise Failed(f"There are {len(workers)} workers, not {MANY}.")
    cost = mailflow.docker.run("exec", workers[0], "python", "-c", CHECKED).strip()
    mailflow.docker.say(f"{MANY} workers are healthy; each check takes {cost} s of CPU")


def _send_junk(mailflow: Mailflow) -> None:
    """Send what every filter takes for junk, from outside and by SMTP, and see it marked.

    Raises:
        Failed: It was not.
    """
    with smtplib.SMTP(*SMTP, timeout=30) as smtp:
        smtp.ehlo("far.example")
        smtp.mail("a@far.example")
        smtp.rcpt(JUNK_TO)
        code, said = smtp.data(JUNK)
    mail_id = said.decode().rpartition(" ")[2]
    if code != ACCEPTED:
        raise Failed(f"SMTP did not take the mail: {code} {said.decode()}")
    with httpx.stream("GET", f"{FRONT}/mail/{mail_id}/live", timeout=60) as live:
        report = "".join(live.iter_text())
    is_junk = f"mail_id = '{mail_id}' and folder = 'junk'"
    if mailflow.count(f"select count(*) from mail.mailbox where {is_junk}") != 1:  # noqa: S608 - our own mail
        raise Failed(f"The mail with GTUBE was not marked as junk: {report}")
    mailflow.docker.say("mail with GTUBE came in by SMTP and was marked as junk")


def _look_at_archive(docker: Docker) -> None:
    """Fetch a page that the old CGI writes, from outside.

    Raises:
        Failed: It is not that page, or lacks the mail.
    """
    answer = httpx.get(f"{FRONT}/archive/{JUNK_TO}", timeout=60)
    is_it = SUBJECT in answer.text and "archive.cgi" in answer.text
    if answer.status_code != OK or not is_it:
        raise Failed(f"The archive answered {answer.status_code}: {answer.text[:2000]}")
    docker.say("the archive's CGI showed the mail, behind Apache and the front")


def _look_at_dashboard(docker: Docker, secrets: Path) -> None:
    """Log in from outside, and see all supervisors as one, and nothing that may be changed.

    Raises:
        Failed: It shows other numbers of workers, or lets somebody in without the token.
    """
    token = (secrets / "dashboard_token").read_text(encoding="utf-8")
    with httpx.Client(base_url=BOARD, timeout=60, follow_redirects=True) as browser:
        stranger = browser.get("/api/about").status_code
        browser.post("/login", data={"token": token}).raise_for_status()
        about = browser.get("/api/about").raise_for_status().json()
        with browser.stream("GET", "/api/live") as live:
            now = json.loads(next(line for line in live.iter_lines() if line)[len("data: ") :])
    ready = {role["role"]: role["ready"] for role in now["roles"]}
    is_all = set(ready) == {box["role"] for box in about["drawing"]["boxes"]}
    is_right = is_all and ready["Deliverer"] == MANY and now["missing"] == []
    if not is_right or about["may_change"] or stranger != UNKNOWN:
        raise Failed(f"The dashboard answered {stranger} to a stranger, and shows {now}.")
    docker.say(f"the dashboard shows {sum(ready.values())} instances of {len(ready)} roles")


if __name__ == "__main__":
    sys.exit(main())

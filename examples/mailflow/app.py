"""The app: `rolekit up --app examples.mailflow.app:app`, from the root of the checkout."""

from __future__ import annotations

from examples.mailflow.deliverer import Deliverer
from examples.mailflow.front import MailFront
from examples.mailflow.inspector import Inspector
from examples.mailflow.reporter import Reporter
from examples.mailflow.smtp import Smtp
from examples.mailflow.spamcheck import spam_check
from examples.mailflow.splitter import Splitter
from rolekit import App

app = App(
    "mailflow", roles=[MailFront, Smtp, Splitter, spam_check(), Inspector, Deliverer, Reporter]
)

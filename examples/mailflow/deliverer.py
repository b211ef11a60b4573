"""Delivery: into a mailbox here, or to a relay."""

from __future__ import annotations

from examples.mailflow.addresses import domain_of
from examples.mailflow.messages import Bounced, Deliver, Delivered
from examples.mailflow.relay import Refused, Relay, TemporaryFailure
from rolekit import Backoff, Context, WorkerRole, handle

ATTEMPTS = 8


class Deliverer(WorkerRole):
    """Puts each copy where it belongs, or says why it cannot.

    Attributes:
        domain: Addresses of this domain have a mailbox here.
        relay: "host:port" of a server that takes the others; empty: there is none.
        relay_domains: Only these go to the relay, separated by blanks.
        relay_starttls: Speak only TLS to the relay; turn off for a local test server.
    """

    instances = 4
    concurrency = 50
    domain: str = "mail.example"
    relay: str = ""
    relay_domains: str = ""
    relay_starttls: bool = True

    @handle(
        retry=[
            Backoff(on=TemporaryFailure, attempts=ATTEMPTS, max_s=60),
            Backoff(attempts=ATTEMPTS, max_s=10),
        ],
        timeout_s=60,
    )
    async def deliver(self, mail: Deliver, ctx: Context) -> Delivered | Bounced:
        """Deliver one copy.

        A mailbox row commits with the step, so exactly once. A relay is outside: it may see
        a copy again after a crash, under the same id (`Relay.send`).
        """
        slip = mail.slip
        domain = domain_of(slip.rcpt)
        if domain == self.domain:
            return self._deliver_here(mail, ctx)
        if not self.relay or domain not in self.relay_domains.split():
            why = f"550 5.7.1 no mailbox here, and no way to {domain}"
            return Bounced(number=slip.number, rcpt=slip.rcpt, why=why)
        return await self._hand_over(mail, ctx)

    def _deliver_here(self, mail: Deliver, ctx: Context) -> Delivered | Bounced:
        slip = mail.slip
        if slip.rcpt.lower().startswith("nobody@"):
            why = "550 5.1.1 no such mailbox"
            return Bounced(number=slip.number, rcpt=slip.rcpt, why=why)
        ctx.write(
            "insert into mail.mailbox (owner, mail_id, position, sender, letter, folder,"
            " score, step_id, accepted_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            slip.rcpt.lower(),
            slip.mail_id,
            slip.number,
            slip.sender,
            slip.raw.id,
            mail.folder,
            mail.score,
            ctx.id,
            slip.accepted_at,
        )
        return Delivered(number=slip.number, rcpt=slip.rcpt, folder=mail.folder)

    async def _hand_over(self, mail: Deliver, ctx: Context) -> Delivered | Bounced:
        """Give the copy to the relay.

        Raises:
            TemporaryFailure: It may take it later. After the last attempt the copy bounces
                instead, since a sender should hear of it.
        """
        slip = mail.slip
        relay = Relay(self.relay, starttls=self.relay_starttls, name=self.domain)
        try:
            await relay.send(slip, await ctx.load(slip.raw), delivery_id=ctx.id)
        except Refused as refused:
            return Bounced(number=slip.number, rcpt=slip.rcpt, why=str(refused))
        except TemporaryFailure as failure:
            if ctx.attempt < ATTEMPTS:
                raise
            why = f"gave up after {ATTEMPTS} attempts: {failure}"
            return Bounced(number=slip.number, rcpt=slip.rcpt, why=why)
        return Delivered(number=slip.number, rcpt=slip.rcpt, folder=mail.folder)

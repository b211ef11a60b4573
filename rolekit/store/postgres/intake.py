"""The way in, with its idempotency keys, and the way out, with its replies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rolekit.errors import Unavailable
from rolekit.model.position import stream_number, unpack
from rolekit.store.base import Accept, Commit, Due, KeyRow, Reply, Saved, Streamed
from rolekit.store.postgres import rows
from rolekit.store.postgres.steps import PostgresBase
from rolekit.store.postgres.work import SequenceWork, Tokens
from rolekit.store.streams import begun, placed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.connections import Pooled
    from rolekit.model.envelope import Packet


class IntakeStore(PostgresBase):
    """What clients ask of the store."""

    async def accept(
        self,
        packets: Sequence[Packet],
        later: Sequence[Due],
        key: KeyRow | None,
        streamed: Sequence[Streamed] = (),
    ) -> tuple[Commit, KeyRow | None]:
        """Take in what a client sends, in one commit; or nothing, if its key is taken."""
        commit = Commit()
        async with self._db.transaction() as connection:
            (prior,) = await self._take_keys(connection, [key])
            if prior is not None:
                return commit, prior
            if streamed:
                tokens = await self._stream(connection, streamed, commit)
                later = [*later, *tokens.later]
            await self._send(connection, packets, commit)
            await self._plan(connection, later, commit)
        return commit, None

    async def accept_all(
        self, requests: Sequence[Accept]
    ) -> tuple[Commit, list[KeyRow | None]]:
        """Take in what several clients send, in one commit."""
        commit = Commit()
        async with self._db.transaction() as connection:
            if len(requests) > 1:
                # Somebody may sit on a key of one of them; the others are done without it.
                await connection.execute(self._sql["be_impatient"])
            priors = await self._take_keys(connection, [one.key for one in requests])
            fresh = [one for one, prior in zip(requests, priors, strict=True) if prior is None]
            await self._send(
                connection, [each for one in fresh for each in one.packets], commit
            )
            await self._plan(connection, [due for one in fresh for due in one.later], commit)
        return commit, priors

    async def _take_keys(
        self, connection: Pooled, keys: Sequence[KeyRow | None]
    ) -> list[KeyRow | None]:
        """Take the keys that are free, for the first that has each.

        In the order of the keys, as everybody does: who waits for one that another
        transaction is taking holds none that the other could want.

        Returns:
            For each key None, if it was taken here; or the request that took it before.

        Raises:
            Unavailable: That was dropped just now; asked again, the key is free.
        """
        firsts: dict[str, KeyRow] = {}
        for key in keys:
            if key is not None:
                firsts.setdefault(key.key, key)
        ours: set[str] = set()
        prior: dict[str, KeyRow] = {}
        for _ in range(2):  # a key may be dropped between the statements, and is free then
            wanted = [
                key for name, key in firsts.items() if name not in ours and name not in prior
            ]
            if not wanted:
                break
            ours |= await self._insert_keys(connection, wanted)
            late = [key.key for key in wanted if key.key not in ours]
            prior |= await self._find_keys(connection, late) if late else {}
        if len(ours) + len(prior) < len(firsts):
            raise Unavailable("The first request with this key was forgotten just now.")
        priors: list[KeyRow | None] = []
        for key in keys:
            priors.append(None if key is None else prior.get(key.key))
            if key is not None and key.key in ours:
                prior[key.key] = firsts[key.key]  # the next one with this key is too late
        return priors

    async def _insert_keys(self, connection: Pooled, wanted: Sequence[KeyRow]) -> set[str]:
        columns = _key_columns(wanted)
        if len(wanted) == 1:  # arrays are planned anew each time, which takes as long again
            values = (column[0] for column in columns)
            taken = await connection.fetch(self._sql["insert_key"], *values)
        else:
            taken = await connection.fetch(self._sql["insert_keys"], *columns)
        return {row["key"].hex for row in taken}

    async def _stream(
        self, connection: Pooled, streamed: Sequence[Streamed], commit: Commit
    ) -> Tokens:
        """Give positions of streams, each locked until the commit, and send with them."""
        groups: dict[str, list[Streamed]] = {}
        for one in streamed:
            groups.setdefault(one.opening.id, []).append(one)
        given = await connection.fetch(
            self._sql["next_of_streams"],
            list(groups),
            [group[0].name for group in groups.values()],
            [group[0].opening.gather for group in groups.values()],
            [len(group) for group in groups.values()],
        )
        ends = {row["sequence"].hex: row["next"] for row in given}
        firsts = {sequence: ends[sequence] - len(group) for sequence, group in groups.items()}
        new = [groups[sequence][0].opening for sequence, at in firsts.items() if at == 0]
        closings = [c for s, at in firsts.items() for c in begun(s, at, ends[s])]
        work = SequenceWork(connection, self._sql, self._clock.now_ms())
        await work.open(new)
        tokens = await work.close(closings)
        packets = [
            placed(one, firsts[sequence] + n)
            for sequence, group in groups.items()
            for n, one in enumerate(group)
        ]
        await self._send(connection, packets + tokens.now, commit)
        return tokens

    async def backlogs(self, sequences: Sequence[str]) -> dict[str, int]:
        """Say how many positions of these streams were given and not released."""
        async with self._db.connection() as connection:
            found = await connection.fetch(self._sql["backlogs"], list(sequences))
        return {
            row["id"].hex: row["tail"] - stream_number(unpack(row["next"])) for row in found
        }

    async def find_key(self, key: str) -> KeyRow | None:
        """Look up an idempotency key."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["find_key"], key)
        return None if row is None else _key_of(row)

    async def _find_keys(self, connection: Pooled, keys: Sequence[str]) -> dict[str, KeyRow]:
        found = await connection.fetch(self._sql["find_keys"], keys)
        return {row["key"].hex: _key_of(row) for row in found}

    async def replies(self, after: Mapping[str, int], limit: int) -> list[Reply]:
        """Read replies by root, each after its `n`, in order of `n`."""
        async with self._db.connection() as connection:
            found = await connection.fetch(
                self._sql["replies"], list(after), list(after.values()), limit
            )
        return [rows.reply_of(row) for row in found]

    async def last_reply(self, root: str, types: Sequence[str]) -> Reply | None:
        """Read the newest reply of these types, or the failure, of a root."""
        async with self._db.connection() as connection:
            row = await connection.fetchrow(self._sql["last_reply"], root, list(types))
        return None if row is None else rows.reply_of(row)


def _key_columns(keys: Sequence[KeyRow]) -> tuple[list[Any], ...]:
    """Write keys; headers as JSON, since an array of arrays is a rectangle."""
    replies = [key.reply for key in keys]
    return (
        [key.key for key in keys],
        [key.body_hash for key in keys],
        [reply and reply.status for reply in replies],
        [reply and reply.media_type for reply in replies],
        [reply and _flat(reply) for reply in replies],
        [reply and reply.body for reply in replies],
    )


def _flat(reply: Saved) -> str:
    return json.dumps([part for header in reply.headers for part in header])


def _key_of(row: rows.Row) -> KeyRow:
    reply = None
    if row["status"] is not None:
        flat: list[str] = row["headers"] or []
        reply = Saved(
            status=row["status"],
            media_type=row["media_type"],
            body=row["body"],
            headers=tuple(zip(flat[::2], flat[1::2], strict=True)),
        )
    return KeyRow(key=row["key"].hex, body_hash=row["body_hash"].hex, reply=reply)

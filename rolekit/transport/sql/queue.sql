-- claim: Take the oldest waiting packets of these queues, as long as the host's lease holds. A range and not an equality, so that no plan walks another queue's packets in the order of their numbers.
update {s}.queue set owner = $1, runs_alone = false where n = any(array(
    select w.n
    from unnest($2::text[], $3::int[]) as q (name, room)
    cross join lateral (
        select n from {s}.queue where queue >= q.name and queue <= q.name and owner is null
        order by queue, n limit q.room for update skip locked) as w
    where exists (select from {s}.host where epoch = $1 >> 24 and lease_until > now())))
returning n, queue, id, generation, birth_ms, head, body, redelivered, is_suspect, crashed;

-- ack: Forget packets for ever.
delete from {s}.queue where n = any($1::bigint[]);

-- forward: Store packets in order and forget those they came from, in one commit; a birth of 0 is now.
with gone as (delete from {s}.queue where n = any($7::bigint[]))
insert into {s}.queue (queue, id, generation, birth_ms, head, body)
select queue, id, generation,
       case birth_ms when 0 then (extract(epoch from now()) * 1000)::bigint else birth_ms end,
       head, body
from unnest($1::text[], $2::uuid[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[])
     with ordinality as p (queue, id, generation, birth_ms, head, body, place)
order by place;

-- lost_claims: Give back what a claim took whose answer never came, and what is handed back.
update {s}.queue set owner = null, redelivered = true, runs_alone = false
where owner = $1 and queue = any($2::text[]) and not n = any($3::bigint[]);

-- run_alone: Note that a suspect runs with nothing beside it, so that a crash is its own.
update {s}.queue set runs_alone = true where n = $1 and owner = $2;

-- publish: Store packets in order; a birth of 0 is now.
insert into {s}.queue (queue, id, generation, birth_ms, head, body)
select queue, id, generation,
       case birth_ms when 0 then (extract(epoch from now()) * 1000)::bigint else birth_ms end,
       head, body
from unnest($1::text[], $2::uuid[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[])
     with ordinality as p (queue, id, generation, birth_ms, head, body, place)
order by place;

-- declare: Make queues that are not there.
insert into {s}.queue_name select unnest($1::text[]) on conflict do nothing;

-- queue_names: List the queues that there are.
select name from {s}.queue_name;

-- undeclare: Drop a queue's name.
delete from {s}.queue_name where name = any($1::text[]);

-- depths: Say what stands in these queues.
select queue,
       count(*) filter (where owner is null) as waiting,
       count(*) filter (where owner is not null) as in_hand,
       coalesce(extract(epoch from now()) - min(birth_ms) filter (where owner is null) / 1000.0, 0)::float as oldest_s
from {s}.queue where queue = any($1::text[]) group by queue;

-- waiting: Read what nobody holds in these queues, what came first.
select n, queue, id, generation, birth_ms, head, body, redelivered, is_suspect, crashed
from {s}.queue where queue = any($1::text[]) and owner is null order by n limit $2;

-- wake: Tell the listeners of this database which queues got something.
select pg_notify($1, $2);

-- free_owners: Hand back what instances held when they died.
update {s}.queue set owner = null, redelivered = true, is_suspect = true, runs_alone = false,
    crashed = crashed + case when runs_alone then 1 else 0 end
where owner = any($1::bigint[]) returning queue;

-- free_orphans: Hand back what instances of hosts that gave up their lease held; or let it run out, while the asker's host held its own.
update {s}.queue q set owner = null, redelivered = true, is_suspect = true, runs_alone = false,
    crashed = crashed + case when runs_alone then 1 else 0 end
where q.owner is not null
  and not exists (select from {s}.host h where h.epoch = q.owner >> 24 and h.lease_until > now())
  and (not exists (select from {s}.host h where h.epoch = q.owner >> 24)
       or exists (select from {s}.host h where h.epoch = $1::bigint >> 24
                  and h.lease_until > now() and h.held_since < now() - interval '15 s'))
returning queue;

-- drop_reply_queues: Drop answers for askers of hosts that are gone.
delete from {s}.queue q
where q.queue like '~reply.%' and not exists (
    select from {s}.host h where h.epoch = substring(q.queue from 8)::bigint >> 24)
  and exists (select from {s}.host h where h.epoch = $1::bigint >> 24 and h.lease_until > now());

-- forget_askers: Drop the answers for instances that died.
with gone as (delete from {s}.queue_name where name = any($1::text[]))
delete from {s}.queue where queue = any($1::text[]);

-- own: Have queues to oneself under an epoch; none where somebody has a higher one.
insert into {s}.queue_epoch as held (queue, epoch)
select name, $2 from unnest($1::text[]) as name order by name
on conflict (queue) do update set epoch = excluded.epoch where held.epoch <= excluded.epoch
returning queue;

-- free_claims: Take back what earlier readers of queues still hold.
update {s}.queue set owner = null, redelivered = true, runs_alone = false
where queue = any($1::text[]) and owner is not null;

-- claim_own: Take the oldest waiting packets of queues that are one's own, as `claim` does.
with mine as (
    select queue from {s}.queue_epoch where queue = any($2::text[]) and epoch = $4 for share)
update {s}.queue set owner = $1, runs_alone = false where n = any(array(
    select w.n
    from unnest($2::text[], $3::int[]) as q (name, room)
    join mine on mine.queue = q.name
    cross join lateral (
        select n from {s}.queue where queue >= q.name and queue <= q.name and owner is null
        order by queue, n limit q.room for update) as w
    where exists (select from {s}.host where epoch = $1 >> 24 and lease_until > now())))
returning n, queue, id, generation, birth_ms, head, body, redelivered, is_suspect, crashed;

-- waits_for_other: Say whether something waits for another app.
select exists(select from {s}.queue where queue = $1 and owner is null);

-- hand_over: Move what waits for another app, what came first, into its queue; an error where that is not there.
with there as (select 1 / count(*) as one from {other}.queue_name where name = $3),
gone as (
    delete from {s}.queue where n = any(array(
        select n from {s}.queue where queue = $1 and owner is null and (select one from there) = 1
        order by n limit $2 for update skip locked))
    returning n, id, generation, birth_ms, head, body),
put as (
    insert into {other}.queue (queue, id, generation, birth_ms, head, body)
    select $3, id, generation, birth_ms, head, body from gone order by n
    returning 1)
select count(*) from put;

-- insert_inbox: Take the inbox rows of steps, and end their claims; return the rows that were free.
with ended as (delete from {s}.queue where n = any($5::text::bigint[]))
insert into {s}.inbox (id, generation, day, outcome)
select * from unnest($1::text::uuid[], $2::text::int[], $3::text::int[], $4::text::smallint[])
on conflict do nothing
returning id, generation;

-- at_once_to_outbox: Commit whole steps that only record, change states and send; an error where one had its outcome, a state changed, or a partition has another owner.
with fenced as (
    select from {s}.partition p
    join unnest($18::text[], $19::int[], $20::bigint[]) as f (role, n, epoch) using (role, n, epoch)
    order by p.role, p.n for share of p),
ended as (delete from {s}.queue where n = any($5::text::bigint[])),
fresh as (
    insert into {s}.inbox (id, generation, day, outcome)
    select * from unnest($1::text::uuid[], $2::text::int[], $3::text::int[], $4::text::smallint[])
    where (select count(*) from fenced) = cardinality($19::int[])
    on conflict do nothing returning 1),
made as (
    insert into {s}.state as held (scope, name, key, version, body)
    select scope, name, key, after, body
    from unnest($6::text::text[], $7::text::text[], $8::text::text[], $9::text::bigint[], $10::bytea[], $11::text::bigint[])
         as c (scope, name, key, version, body, after)
    where version = 0
    on conflict do nothing returning 1),
saved as (
    update {s}.state as held
    set version = c.after, body = c.body, changed_at = now()
    from unnest($6::text::text[], $7::text::text[], $8::text::text[], $9::text::bigint[], $10::bytea[], $11::text::bigint[])
         as c (scope, name, key, version, body, after)
    where held.scope = c.scope and held.name = c.name and held.key = c.key
      and held.version = c.version and c.version > 0
    returning 1),
sent as (
    insert into {s}.outbox (owner, queues, ids, generations, births_ms, heads, bodies)
    select $21::bigint, $12::text::text[], $13::text::uuid[], $14::text::int[], $15::text::bigint[], $16::bytea[], $17::bytea[]
    where cardinality($12::text::text[]) > 0
    returning n)
select 1 / (case when (select count(*) from fresh) = cardinality($1::text::uuid[])
                  and (select count(*) from made) + (select count(*) from saved) = cardinality($6::text::text[])
                 then 1 else 0 end) as is_whole,
       (select n from sent) as n;

-- at_once_to_queues: Commit whole steps that only record, change states and send; an error where one had its outcome, a state changed, or a partition has another owner.
with fenced as (
    select from {s}.partition p
    join unnest($18::text[], $19::int[], $20::bigint[]) as f (role, n, epoch) using (role, n, epoch)
    order by p.role, p.n for share of p),
ended as (delete from {s}.queue where n = any($5::text::bigint[])),
fresh as (
    insert into {s}.inbox (id, generation, day, outcome)
    select * from unnest($1::text::uuid[], $2::text::int[], $3::text::int[], $4::text::smallint[])
    where (select count(*) from fenced) = cardinality($19::int[])
    on conflict do nothing returning 1),
made as (
    insert into {s}.state as held (scope, name, key, version, body)
    select scope, name, key, after, body
    from unnest($6::text::text[], $7::text::text[], $8::text::text[], $9::text::bigint[], $10::bytea[], $11::text::bigint[])
         as c (scope, name, key, version, body, after)
    where version = 0
    on conflict do nothing returning 1),
saved as (
    update {s}.state as held
    set version = c.after, body = c.body, changed_at = now()
    from unnest($6::text::text[], $7::text::text[], $8::text::text[], $9::text::bigint[], $10::bytea[], $11::text::bigint[])
         as c (scope, name, key, version, body, after)
    where held.scope = c.scope and held.name = c.name and held.key = c.key
      and held.version = c.version and c.version > 0
    returning 1),
sent as (
    insert into {s}.queue (queue, id, generation, birth_ms, head, body)
    select queue, id, generation,
           case birth_ms when 0 then (extract(epoch from now()) * 1000)::bigint else birth_ms end,
           head, body
    from unnest($12::text::text[], $13::text::uuid[], $14::text::int[], $15::text::bigint[], $16::bytea[], $17::bytea[])
         with ordinality as p (queue, id, generation, birth_ms, head, body, place)
    order by place returning 1)
select 1 / (case when (select count(*) from fresh) = cardinality($1::text::uuid[])
                  and (select count(*) from made) + (select count(*) from saved) = cardinality($6::text::text[])
                 then 1 else 0 end) as is_whole,
       (select count(*) from sent) as n;

-- seen: Say which of these messages had their outcome.
select i.id, i.generation
from unnest($1::uuid[], $2::int[], $3::int[]) as k (id, generation, day)
join {s}.inbox i using (id, generation, day);

-- delete_claims: End claims whose step opened its transaction itself.
delete from {s}.queue where n = any($1::bigint[]);

-- insert_queue: Send packets through Postgres itself; a birth of 0 is now.
insert into {s}.queue (queue, id, generation, birth_ms, head, body)
select queue, id, generation,
       case birth_ms when 0 then (extract(epoch from now()) * 1000)::bigint else birth_ms end,
       head, body
from unnest($1::text[], $2::uuid[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[])
     with ordinality as p (queue, id, generation, birth_ms, head, body, place)
order by place;

-- insert_outbox: Note packets that leave together after this commit.
insert into {s}.outbox (owner, queues, ids, generations, births_ms, heads, bodies)
values ($7, $1::text[], $2::uuid[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[])
returning n;

-- insert_schedule: Note packets for later.
insert into {s}.schedule (due_ms, queue, id, generation, head, body, why)
select * from unnest($1::bigint[], $2::text[], $3::uuid[], $4::int[], $5::bytea[], $6::bytea[], $7::text[]);

-- insert_sequences: Make the rows of sequences; a repeat of a first commit changes nothing.
insert into {s}.sequence (
    id, gather, next, totals, waits, age_ms, deadline_ms, token_head,
    source_queue, source_id, source_generation, source_birth_ms, source_head, source_body,
    is_ordered, is_stream
)
select * from unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::boolean[], $6::int[],
                     $7::bigint[], $8::bytea[], $9::text[], $10::uuid[], $11::int[], $12::bigint[],
                     $13::bytea[], $14::bytea[], $15::boolean[], $16::boolean[])
on conflict do nothing;

-- insert_parts: Close positions; the first closing counts, but a split may end and a part fill a waiting hole.
insert into {s}.part as held
    (sequence, path, closed_by, total, type, type_version, codec, body, detail, dead_letter)
select * from unnest($1::uuid[], $2::bytea[], $3::smallint[], $4::int[], $5::text[],
                     $6::int[], $7::text[], $8::bytea[], $9::text[], $10::text[])
on conflict (sequence, path) do update set
    closed_by = excluded.closed_by, total = excluded.total, type = excluded.type,
    type_version = excluded.type_version, codec = excluded.codec, body = excluded.body,
    detail = excluded.detail, dead_letter = excluded.dead_letter
where (held.closed_by = 3 and held.total is null and excluded.closed_by = 3 and excluded.total is not null)
   or (held.closed_by = 2 and excluded.closed_by <> 2
       and (select waits from {s}.sequence where id = excluded.sequence));

-- insert_leaves: Close positions by parts of one type: as insert_parts does, with fewer columns to encode.
insert into {s}.part as held
    (sequence, path, closed_by, total, type, type_version, codec, body, detail, dead_letter)
select sequence, path, 0, null, $4, $5, $6, body, '', ''
from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as c (sequence, path, body)
on conflict (sequence, path) do update set
    closed_by = excluded.closed_by, total = excluded.total, type = excluded.type,
    type_version = excluded.type_version, codec = excluded.codec, body = excluded.body,
    detail = excluded.detail, dead_letter = excluded.dead_letter
where held.closed_by = 2 and (select waits from {s}.sequence where id = excluded.sequence);

-- find_repeats: Say of which of these positions were closed before this transaction, and whether by something else.
select c.sequence, count(*) as repeated,
       count(*) filter (where (p.closed_by, p.total, p.body) is distinct from (c.closed_by, c.total, c.body)) as conflicting
from unnest($1::uuid[], $2::bytea[], $3::smallint[], $4::int[], $5::bytea[])
     as c (sequence, path, closed_by, total, body)
join {s}.part p on p.sequence = c.sequence and p.path = c.path
where p.xmin <> pg_current_xact_id()::xid
group by c.sequence;

-- count_odd: Count what came too late to sequences, or twice.
update {s}.sequence s
set late = s.late + c.late, repeated = s.repeated + c.repeated, conflicting = s.conflicting + c.conflicting
from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) as c (id, late, repeated, conflicting)
where s.id = c.id;

-- lock_sequences: Lock these sequences, in one order for everybody.
select id, gather, next, totals, released, state, is_ready, is_expired, waits, age_ms, token_head,
       is_ordered, is_stream, runs
from {s}.sequence where id = any($1::uuid[]) order by id for update;

-- move_sequences: Move sequences on behind their runs; one that found nothing leaves the seal of the next.
update {s}.sequence s
set next = m.next, totals = m.totals, released = s.released + m.released, state = m.state,
    emitted = m.emitted, is_ready = false, sealed_paths = null, runs = s.runs + 1,
    sealed = case when s.next = m.next then s.sealed end, moved_at = now()
from unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::bigint[], $5::smallint[], $6::bigint[])
     as m (id, next, totals, released, state, emitted)
where s.id = m.id;

-- mark_ready: Note that a token is on its way for these sequences.
update {s}.sequence set is_ready = true, tokens = tokens + 1 where id = any($1::uuid[])
returning id, tokens;

-- delete_released: Delete what was released of sequences, but not the splits that still go on.
delete from {s}.part p
using unnest($1::uuid[], $2::bytea[]) as m (id, next)
where p.sequence = m.id and p.path < m.next
  and not exists (
      select from unnest($3::uuid[], $4::bytea[]) as k (id, path)
      where k.id = p.sequence and k.path = p.path);

-- forget_repeats: Delete what came to positions of heaps that were handed over before; but a split may end there.
with gone as (
    delete from {s}.part p
    using unnest($1::uuid[], $2::bytea[], $3::boolean[]) as c (sequence, path, is_late)
    where p.sequence = c.sequence and p.path = c.path
      and (c.is_late or exists (
          select from {s}.taken t
          where t.sequence = c.sequence and t.path = c.path
            and not (t.total = -1 and p.closed_by = 3 and p.total is not null)))
    returning p.sequence, p.path)
select sequence, path from gone;

-- take_parts: Hand over positions of a heap; those beyond its cursor, and the splits that go on, are remembered.
with gone as (
    delete from {s}.part where sequence = $1 and path = any($2::bytea[])
    returning sequence, path, closed_by, total)
insert into {s}.taken (sequence, path, total)
select sequence, path, case when closed_by = 3 then coalesce(total, -1) end from gone
where path >= $3 or path = any($4::bytea[])
on conflict (sequence, path) do update set total = excluded.total;

-- forget_taken: Forget what was handed over behind the cursor, but not the splits that still go on.
delete from {s}.taken where sequence = $1 and path < $2 and not path = any($3::bytea[]);

-- is_welcome: Say whether heaps have anything to take.
select id from {s}.sequence s
where id = any($1::uuid[])
  and exists (select from {s}.part p where p.sequence = s.id and not (s.waits and p.closed_by = 2));

-- heap: Read a sequence whose parts are taken as they come.
select id, gather, next, totals, released, emitted, sealed_paths, state, is_expired, runs, waits, is_ordered, is_stream,
       source_queue, source_id, source_generation, source_birth_ms, source_head, source_body
from {s}.sequence where id = $1;

-- heap_parts: Read what of a heap was not handed over, or what its sealed run takes.
select path, closed_by, total, type, type_version, codec, body, detail, dead_letter
from {s}.part
where sequence = $1 and not ($2 and closed_by = 2) and ($3::bytea[] is null or path = any($3::bytea[]))
order by path limit $4;

-- heap_taken: Read what of a heap was handed over, from its cursor on, and the open splits above it.
(select path, total from {s}.taken where sequence = $1 and path >= $2 order by path limit $4)
union all
select path, total from {s}.taken where sequence = $1 and path < $2 and path = any($3::bytea[]);

-- seal_heap: Fix what a run of a heap takes; what was fixed first stays. No row: another run has begun.
update {s}.sequence set sealed_paths = coalesce(sealed_paths, $3::bytea[])
where id = $1 and runs = $2 and state = 0
returning coalesce(sealed_paths, '{}') as sealed_paths;

-- delete_parts: Delete every part of sequences that are over.
with taken as (delete from {s}.taken where sequence = any($1::uuid[]))
delete from {s}.part where sequence = any($1::uuid[]);

-- find_parts: Read some positions of some sequences.
select p.sequence, p.path, p.closed_by, p.total
from unnest($1::uuid[], $2::bytea[]) as k (sequence, path) join {s}.part p using (sequence, path);

-- view: Read sequences with their next closings, and the open splits above each cursor; the message that was split once each.
select s.id, s.gather, s.next, s.totals, s.released, s.emitted, s.sealed, s.state, s.is_expired,
       s.is_ordered, s.is_stream, s.runs, s.source_queue, s.source_id, s.source_generation, s.source_birth_ms,
       case when row_number() over (partition by s.id order by p.path) = 1 then s.source_head end as source_head,
       case when row_number() over (partition by s.id order by p.path) = 1 then s.source_body end as source_body,
       p.path, p.closed_by, p.total, p.type, p.type_version, p.codec, p.body, p.detail, p.dead_letter
from {s}.sequence s
left join lateral (
    (select * from {s}.part
     where sequence = s.id and path >= case when $3 then ''::bytea else s.next end
     order by path limit $2)
    union all
    select * from {s}.part
    where sequence = s.id and not $3 and path < s.next and path = any(array(
        select substring(s.next from 1 for 4 * depth)
        from generate_series(0, length(s.next) / 4 - 1) as depth))
) as p on true
where s.id = any($1::uuid[])
order by s.id, p.path;

-- next_of_streams: Give the next positions of streams; how many each, how many it has given then.
insert into {s}.stream as held (sequence, name, gather, next)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[]) order by 1
on conflict (sequence) do update set next = held.next + excluded.next
returning sequence, next;

-- backlogs: Say how far streams have come, and how far their gathers have.
select s.id, t.next as tail, s.next from {s}.stream t join {s}.sequence s on s.id = t.sequence
where t.sequence = any($1::uuid[]);

-- find_split: Say how far a split has come.
select id, origin, sequence, next, places, digest from {s}.split where id = $1;

-- begin_split: Begin a split that takes several commits; nothing where one goes on.
insert into {s}.split (id, origin, generation, sequence, next, places, digest)
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing;

-- move_split: Move a split on, if it still is where it was, and no newer generation runs it.
update {s}.split set next = $4, places = $5, digest = $6, generation = $3, at = now()
where id = $1 and next = $2 and generation <= $3;

-- end_split: End a split, if it still is where it was.
delete from {s}.split where id = $1 and next = $2 and generation <= $3;

-- adopt_source: Keep a message that was split as the generation that can be replayed.
update {s}.sequence set source_generation = $2, source_birth_ms = $3, source_head = $4 where id = $1;

-- drop_splits: Drop splits that nobody has gone on with for long.
delete from {s}.split where at < now() - make_interval(secs => $1);

-- flights: List open sequences, what moved longest ago first.
select s.id, s.gather, s.next, s.totals, s.released, s.is_ready, s.is_expired, s.waits, s.deadline_ms,
       s.late, s.repeated, s.conflicting, s.token_head, s.source_head, s.source_id,
       (extract(epoch from s.moved_at) * 1000)::bigint as moved_ms, t.name as stream, t.next as tail,
       p.sequence, p.path, p.closed_by, p.total, p.detail, p.dead_letter
from {s}.sequence s
left join {s}.stream t on t.sequence = s.id
left join {s}.part p on p.sequence = s.id and p.path = s.next
where s.state = 0 order by s.moved_at, s.id limit $1;

-- held: List packets in whose heads one of these sequences is named, or that have one of these ids.
with asked as (select convert_to(s, 'UTF8') as name from unnest($1::text[]) as s)
(select 'schedule' as place, queue, id, generation, head, due_ms, why, '' as dead_letter
 from {s}.schedule where id = any($3::uuid[]) or exists (select from asked where position(name in head) > 0) limit $2)
union all
(select case when owner is null then 'queue' else 'hand' end, queue, id, generation, head, 0, '', ''
 from {s}.queue where id = any($3::uuid[]) or exists (select from asked where position(name in head) > 0) limit $2)
union all
(select 'behind', queue, id, generation, head, 0, '', ''
 from {s}.waiting_list where id = any($3::uuid[]) or exists (select from asked where position(name in head) > 0) limit $2)
union all
(select 'outbox', p.queue, p.id, p.generation, p.head, 0, '', ''
 from {s}.outbox o, unnest(o.queues, o.ids, o.generations, o.heads) as p (queue, id, generation, head)
 where p.id = any($3::uuid[]) or exists (select from asked where position(name in p.head) > 0) limit $2)
union all
(select 'dead letter', queue, message_id, generation, head, 0, reason, id
 from {s}.dead_letter
 where closed_at is null
   and (message_id = any($3::uuid[]) or exists (select from asked where position(name in head) > 0)) limit $2);

-- seal: Fix the end of the run that was begun; the end that was fixed first stays. No row: the cursor is elsewhere.
update {s}.sequence set sealed = coalesce(sealed, $3)
where id = $1 and next = $2 and state = 0
returning sealed;

-- expire: Note which sequences' time is up; those that wait for their holes have no such end.
update {s}.sequence set is_expired = true
where id = any(array(
    select id from {s}.sequence
    where state = 0 and not is_expired and not waits and deadline_ms <= $1
    order by deadline_ms limit $2 for update skip locked))
returning id, gather, token_head, is_ready;

-- upsert_state: Save states whose version is still the one that was read.
insert into {s}.state as held (scope, name, key, version, body)
select scope, name, key, after, body
from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[])
     as c (scope, name, key, version, body, after)
where version = 0
on conflict do nothing
returning scope;

-- update_state: Save states that were there, if their version is still the one that was read.
update {s}.state as held set version = c.after, body = c.body, changed_at = now()
from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[])
     as c (scope, name, key, version, body, after)
where held.scope = c.scope and held.name = c.name and held.key = c.key and held.version = c.version
returning held.scope;

-- load_states: Read states.
select scope, name, key, version, body
from {s}.state join unnest($1::text[], $2::text[], $3::text[]) as k (scope, name, key) using (scope, name, key);

-- delete_states: Drop the states of a sequence that is over.
delete from {s}.state where scope = any($1::text[]);

-- recall: Read what a call of `ctx.once` returned.
select value from {s}.once where id = $1 and name = $2;

-- remember: Keep what a call of `ctx.once` returned; the first one stays.
insert into {s}.once as held (id, name, value) values ($1, $2, $3)
on conflict (id, name) do update set at = held.at
returning value;

-- insert_chunk: Keep a piece of a blob under its upload.
insert into {s}.blob_chunk (upload, n, data) values ($1, $2, $3);

-- insert_blob: Name an upload by its content, or use what is there already; say which it was.
insert into {s}.blob as b (id, size_bytes, upload) values ($1, $2, $3)
on conflict (id) do update set used_at = now()
returning b.upload = $3;

-- has_blob: Say whether a blob is there.
select 1 from {s}.blob where id = $1;

-- use_blobs: Note that blobs are used, and say which are there; waits for whoever drops them.
update {s}.blob set used_at = now()
where id in (select id from {s}.blob where id = any($1::text[]) order by id for update)
returning id;

-- load_blob: Read the pieces of a blob in order.
select c.data from {s}.blob b join {s}.blob_chunk c using (upload) where b.id = $1 order by c.n;

-- order_replies: Take turns with others that keep replies of these roots, so that numbers follow commits.
select pg_advisory_xact_lock(hashtextextended(root, 7041966213))
from (select distinct unnest($1::text[]) as root order by 1) as roots;

-- insert_replies: Keep answers for whoever follows.
insert into {s}.reply (root, id, type, type_version, codec, body, is_failure, trace)
select root, id, type, type_version, codec, body, is_failure, trace
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::text[], $6::bytea[], $7::boolean[],
            $8::text[])
     with ordinality as r (root, id, type, type_version, codec, body, is_failure, trace, place)
order by place;

-- replies: Read answers, each root's after the last one that was read.
select r.root, r.n, r.id, r.type, r.type_version, r.codec, r.body, r.is_failure, r.trace
from unnest($1::uuid[], $2::bigint[]) as a (root, n)
join {s}.reply r on r.root = a.root and r.n > a.n
order by r.n limit $3;

-- last_reply: Read the newest answer of some types, or the failure, of a root.
select root, n, id, type, type_version, codec, body, is_failure, trace
from {s}.reply where root = $1 and (type = any($2::text[]) or is_failure)
order by is_failure, n desc limit 1;

-- insert_key: Take an idempotency key; nothing if it is taken.
insert into {s}.idempotency (key, body_hash, status, media_type, headers, body)
values ($1, $2, $3, $4,
        case when $5::text is not null
             then array(select jsonb_array_elements_text($5::jsonb)) end, $6)
on conflict do nothing returning key;

-- be_impatient: Have this transaction wait no longer than this for what another one holds.
set local lock_timeout = '500ms';

-- insert_keys: Take idempotency keys in their order; returns those that were free.
insert into {s}.idempotency (key, body_hash, status, media_type, headers, body)
select key, body_hash, status, media_type,
       case when headers is not null
            then array(select jsonb_array_elements_text(headers::jsonb)) end,
       body
from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::bytea[])
     as k (key, body_hash, status, media_type, headers, body)
order by key
on conflict do nothing returning key;

-- who_we_are: Read the row of this process's host, which no other database has.
select epoch, name, pid, started, current_database() from {s}.host where epoch = $1;

-- via_outbox: Note packets that leave together, in somebody else's transaction; an error where the database is another one.
with here as (
    select 1 / count(*) as one from {s}.host
    where epoch = $1::bigint and name = $2::text and pid = $3::int and started = $4::text
      and current_database() = $5::text and lease_until > now() - interval '10 min')
insert into {s}.outbox (owner, queues, ids, generations, births_ms, heads, bodies)
select 0, array_agg(queue order by n), array_agg(id::uuid order by n), array_agg(0 order by n),
       array_agg($10::bigint order by n), array_agg(decode(head, 'base64') order by n),
       array_agg(decode(body, 'base64') order by n)
from unnest($6::text[], $7::text[], $8::text[], $9::text[])
     with ordinality as p (queue, id, head, body, n), here
where one = 1;

-- via_queue: Send packets through Postgres itself, in somebody else's transaction; an error where the database is another one.
with here as (
    select 1 / count(*) as one from {s}.host
    where epoch = $1::bigint and name = $2::text and pid = $3::int and started = $4::text
      and current_database() = $5::text and lease_until > now() - interval '10 min')
insert into {s}.queue (queue, id, generation, birth_ms, head, body)
select queue, id::uuid, 0, $10::bigint, decode(head, 'base64'), decode(body, 'base64')
from unnest($6::text[], $7::text[], $8::text[], $9::text[])
     with ordinality as p (queue, id, head, body, n), here
where one = 1
order by n;

-- via_schedule: Note packets for later, in somebody else's transaction; an error where the database is another one.
with here as (
    select 1 / count(*) as one from {s}.host
    where epoch = $1::bigint and name = $2::text and pid = $3::int and started = $4::text
      and current_database() = $5::text and lease_until > now() - interval '10 min')
insert into {s}.schedule (due_ms, queue, id, generation, head, body)
select $10::bigint, queue, id::uuid, 0, decode(head, 'base64'), decode(body, 'base64')
from unnest($6::text[], $7::text[], $8::text[], $9::text[]) as p (queue, id, head, body), here
where one = 1;

-- find_key: Read an idempotency key.
select key, body_hash, status, media_type, headers, body from {s}.idempotency where key = $1;

-- find_keys: Read idempotency keys.
select key, body_hash, status, media_type, headers, body from {s}.idempotency
where key = any($1::uuid[]);

-- take_due: Take what is due from the schedule.
delete from {s}.schedule where n = any(array(
    select n from {s}.schedule where due_ms <= $1 order by due_ms limit $2 for update skip locked))
returning due_ms, queue, id, generation, head, body;

-- next_due: Say when the next packet is due.
select min(due_ms) from {s}.schedule;

-- adopt: Take over outbox rows of instances whose host holds no lease.
update {s}.outbox set owner = $1 where n = any(array(
    select o.n from {s}.outbox o
    where o.owner <> $1
      and not exists (select from {s}.host h where h.epoch = o.owner >> 24 and h.lease_until > now())
      and (not exists (select from {s}.host h where h.epoch = o.owner >> 24)
           or exists (select from {s}.host h where h.epoch = $1::bigint >> 24
                      and h.lease_until > now() and h.held_since < now() - interval '15 s'))
    order by o.n limit $2 for update skip locked))
returning n, queues, ids, generations, births_ms, heads, bodies;

-- unsent: List outbox rows of this instance that it does not know of: their commit's answer was lost.
select n, queues, ids, generations, births_ms, heads, bodies
from {s}.outbox where owner = $1 and not n = any($2::bigint[]) order by n limit $3;

-- forget: Delete outbox rows that were confirmed.
delete from {s}.outbox where n = any($1::bigint[]);

-- forget_and_keep: Delete outbox rows that were confirmed, and keep what they sent.
with gone as (
    delete from {s}.outbox where n = any($1::bigint[])
    returning queues, ids, generations, births_ms, heads, bodies),
clock as (select (extract(epoch from clock_timestamp()) * 1000)::bigint as ms)
insert into {s}.sent (day, at_ms, queues, ids, generations, births_ms, heads, bodies)
select ms / 86400000, ms, queues, ids, generations, births_ms, heads, bodies from gone, clock;

-- sent: Read what was sent, in order of the confirms.
select n, at_ms, queues, ids, generations, births_ms, heads, bodies from {s}.sent
where day >= $1::bigint / 86400000 and at_ms >= $1 and at_ms < $2 and n > $3
order by n limit $4;

-- ran_today: Note that the app runs on a day.
insert into {s}.running_day (day) values ($1) on conflict do nothing;

-- needed_since: Return the oldest birth that something in the database may still need the inbox for.
select least(
    (select min(birth_ms) from {s}.outbox, unnest(births_ms) as t (birth_ms)),
    (select min(due_ms) from {s}.schedule),
    (select min(birth_ms) from {s}.waiting_list),
    (select min(least(source_birth_ms, (extract(epoch from opened_at) * 1000)::bigint))
     from {s}.sequence where state = 0 and not is_stream));

-- spent_days: List the days of a partitioned table since which the app has run on more than $2 days.
select substring(c.relname from '\d+$')::int as day
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = $1::text::regclass
  and (select count(*) from {s}.running_day r where r.day > substring(c.relname from '\d+$')::int) > $2
order by 1;

-- drop_running_days: Forget on which days the app ran, before any day that is left.
delete from {s}.running_day where day < $1;

-- insert_dead: Park a message.
insert into {s}.dead_letter (id, queue, message_id, generation, birth_ms, head, body,
                             handler, type, reason, traceback, attempts, at_ms, is_forced,
                             told, answers, detail)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, (extract(epoch from now()) * 1000)::bigint, $13,
        $14, $15, $16)
on conflict do nothing;

-- answer_dead: Note that handlers are done with dead letters ($2), or will never be; the last one closes its letter.
update {s}.dead_letter d
set told = greatest(d.told - a.n, 0), is_answered = d.is_answered or $2,
    closed_at = case when d.told <= a.n and (d.is_answered or $2) then now() end,
    closed_how = case when d.told <= a.n and (d.is_answered or $2) then 'answered' end
from (select id, count(*)::smallint as n from unnest($1::text[]) as t (id) group by id) a
where d.id = a.id and d.closed_at is null;

-- replayed_dead: Say which of these dead letters were replayed.
select id from {s}.dead_letter where id = any($1::text[]) and closed_how = 'replayed';

-- list_dead: List dead letters that fit, newest first: open ones, those that are answered too ($1), or all ($2).
select * from {s}.dead_letter
where ($2 or (closed_at is null and (told = 0 or $1)) or ($1 and closed_how = 'answered'))
  and $3 in ('', handler) and $4 in ('', type) and strpos(lower(reason), lower($5)) > 0
  and ($6::bigint is null or at_ms >= $6) and ($7::bigint is null or at_ms < $7)
  and (cardinality($8::text[]) = 0 or exists (select from unnest($8::text[]) as t (p) where starts_with(id, p)))
order by at_ms desc, id limit $9;

-- replay_dead: Close dead letters that are replayed: open ones, those that are answered too ($3); and what was to answer them.
with again as (
    update {s}.dead_letter set closed_at = now(), closed_how = 'replayed'
    where id = any($1::text[]) and ($2 or not is_forced)
      and ((closed_at is null and (told = 0 or $3)) or ($3 and closed_how = 'answered'))
    returning *),
overtaken as (
    update {s}.dead_letter set closed_at = now(), closed_how = 'overtaken'
    where closed_at is null and answers = any(array(select id from again)))
select * from again order by at_ms, id;

-- edit_dead: Change the message of a dead letter that is not closed.
update {s}.dead_letter set head = $2, body = $3, edited_at = now()
where id = $1 and closed_at is null;

-- drop_dead: Close dead letters that are open, for good.
update {s}.dead_letter set closed_at = now(), closed_how = 'dropped'
where id = any($1::text[]) and closed_at is null returning *;

-- fail_sequences: End sequences whose gather was given up; a stream has no end.
update {s}.sequence set state = 2 where id = any($1::uuid[]) and state = 0 and not is_stream;

-- skip_runs: Let streams go on behind the run that their gather was given up over.
with gone as (
    update {s}.sequence
    set next = sealed, totals = substring($2::bytea for length(sealed)), sealed = null,
        runs = runs + 1, moved_at = now()
    where id = any($1::uuid[]) and state = 0 and is_stream and sealed is not null
    returning id, next),
passed as (
    delete from {s}.part p using gone g
    where p.sequence = g.id and p.path < g.next and p.path <> substring(g.next for 4))
select id, gather, token_head from {s}.sequence where id = any($1::uuid[]) and state = 0 and is_stream;

-- count_dead: Count open dead letters by handler.
select handler, count(*) as n from {s}.dead_letter where closed_at is null and told = 0 group by handler;

-- drop_sequences: Drop sequences that are over and older than any part that may still come.
delete from {s}.sequence where state <> 0 and opened_at < now() - make_interval(secs => $1);

-- drop_closed: Drop dead letters that were closed long ago.
delete from {s}.dead_letter where closed_at < now() - make_interval(secs => $1);

-- drop_replies: Drop answers that were kept long enough.
delete from {s}.reply where at < now() - make_interval(secs => $1);

-- drop_keys: Drop idempotency keys that were kept long enough.
delete from {s}.idempotency where at < now() - make_interval(secs => $1);

-- drop_once: Drop results of `ctx.once` that no attempt can ask for any more.
delete from {s}.once where at < now() - make_interval(secs => $1);

-- days: Return the first and the last day that a partitioned table has; and whether there is such a table, and what makes its days.
select min(substring(c.relname from '\d+$')::int) as first, max(substring(c.relname from '\d+$')::int) as last,
       to_regclass($1) is not null and to_regproc('{s}.make_days') is not null as is_there
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = to_regclass($1);

-- make_days: Make the days from $2 to $3 of a partitioned table, with the rights of the owner.
select {s}.make_days($1, $2, $3);

-- drop_day: Drop a day of a partitioned table, likewise.
select {s}.drop_day($1, $2);

-- lacking_rights: List what this user may not do in the schema and every process of the app has to.
select quote_ident(current_user) as who, format('%s on %s', privilege, c.oid::regclass) as what
from pg_class c, unnest(array['select', 'insert', 'update', 'delete']) as privilege
where c.relnamespace = to_regnamespace('{s}') and c.relkind in ('r', 'p') and not c.relispartition
  and (privilege = 'select' or c.relname <> 'migration')
  and not has_table_privilege(c.oid, privilege)
union all
select quote_ident(current_user), format('usage on sequence %s', c.oid::regclass)
from pg_class c
where c.relnamespace = to_regnamespace('{s}')
  and case c.relkind when 'S' then not has_sequence_privilege(c.oid, 'usage') else false end
union all
select quote_ident(current_user), format('execute on %s', p.oid::regprocedure)
from pg_proc p
where p.pronamespace = to_regnamespace('{s}') and not has_function_privilege(p.oid, 'execute')
order by 2;

-- delete_chunks: Forget an upload whose content was there already.
delete from {s}.blob_chunk where upload = $1;

-- claim_sweep: Be the one relay that looks for blobs to drop on a day.
update {s}.running_day set is_swept = true where day = $1 and not is_swept returning day;

-- ran_since: Return the day since which the app has run on so many other days.
select day from {s}.running_day order by day desc offset $1 limit 1;

-- has_old_blobs: Say whether a blob was not used since.
select 1 from {s}.blob where used_at < to_timestamp($1::float8 / 1000) limit 1;

-- use_referred: Note as used ($2) which blobs, not used since $1, something that is kept refers to.
with kept (body) as (
    select head || body from {s}.queue
    union all select unnest(heads || bodies) from {s}.outbox
    union all select unnest(heads || bodies) from {s}.sent
    union all select head || body from {s}.schedule
    union all select head || body from {s}.waiting_list
    union all select head || body from {s}.dead_letter where closed_at is null or closed_how = 'answered'
    union all select source_head || source_body from {s}.sequence where state = 0
    union all select body from {s}.part
    union all select body from {s}.reply
    union all select body from {s}.state),
-- Escaping leaves the digits of a name as they are, side by side, wherever they stand.
runs as materialized (
    select distinct m[1] as run from kept, regexp_matches(encode(body, 'escape'), '[0-9a-f]{64,}', 'g') as m),
found as (
    select run as id from runs where length(run) = 64
    union
    select b.id from {s}.blob b join runs on length(run) > 64 and strpos(run, b.id) > 0
    where b.used_at < to_timestamp($1::float8 / 1000))
update {s}.blob set used_at = to_timestamp($2::float8 / 1000)
where id in (
    select b.id from {s}.blob b
    where b.used_at < to_timestamp($1::float8 / 1000) and b.id in (select id from found)
    order by b.id for update);

-- drop_blobs: Drop some blobs that were not used since; what is being used just now stays.
with gone as (
    delete from {s}.blob where id in (
        select id from {s}.blob where used_at < to_timestamp($1::float8 / 1000)
        order by used_at limit $2 for update skip locked)
    returning upload),
pieces as (delete from {s}.blob_chunk c using gone where c.upload = gone.upload)
select count(*) from gone;

-- suspicions: Say which of these may have killed an instance, and how many died while they ran one alone.
select k.id, k.generation, coalesce(t.crashed, 0) as crashed
from unnest($1::uuid[], $2::int[]) as k (id, generation)
left join {s}.trial t using (id, generation)
where coalesce(t.crashed, 0) > 0
   or exists (select from {s}.death where at > now() - make_interval(secs => $3));

-- begin_alone: Note that an instance runs a message with nothing beside it.
insert into {s}.trial as held (id, generation, owner) values ($1, $2, $3)
on conflict (id, generation) do update set owner = excluded.owner, at = now();

-- end_alone: Note that a message was run alone, and nothing happened.
delete from {s}.trial where id = $1 and generation = $2;

-- drop_trials: Drop what is known of messages that ran alone long ago.
delete from {s}.trial where at < now() - make_interval(secs => $1);

-- drop_deaths: Forget deaths of long ago.
delete from {s}.death where at < now() - interval '1 h';

-- timers: Read when handlers that are called by time are due.
select handler, schedule, next_ms, fired_ms from {s}.timer;

-- plant: Make timers, or change those that had another schedule.
insert into {s}.timer as held (handler, schedule, next_ms)
select handler, schedule, next_ms
from unnest($1::text[], $2::text[], $3::bigint[]) as t (handler, schedule, next_ms) order by handler
on conflict (handler) do update set schedule = excluded.schedule, next_ms = excluded.next_ms
where held.schedule <> excluded.schedule;

-- move_timer: Move a timer on, if nobody did since it was read.
update {s}.timer set next_ms = $4, fired_ms = $5
where handler = $1 and schedule = $2 and next_ms = $3
returning handler;

-- drop_timer: Drop a timer, if it is still as it was read.
delete from {s}.timer where handler = $1 and schedule = $2 and next_ms = $3;

-- enrol: Make the partitions of a role that has none.
with made as (
    insert into {s}.keyed_role (role, partitions) values ($1, $2) on conflict do nothing
    returning partitions)
insert into {s}.partition (role, n)
select $1, n from made, generate_series(0, made.partitions - 1) as n;

-- attend: Be a member of a role for some seconds more.
insert into {s}.member as m (owner, role, lease_until)
values ($1, $2, now() + make_interval(secs => $3))
on conflict (owner, role) do update set
    lease_until = excluded.lease_until,
    held_since = case when m.lease_until < now() then now() else m.held_since end;

-- members: List the members of a role; one whose time ran out too, while the asker's ran out lately itself.
select m.owner from {s}.member m
where m.role = $2
  and (m.lease_until > now()
       or not exists (select from {s}.member me where me.owner = $1 and me.role = $2
                      and me.held_since < now() - make_interval(secs => $3)))
order by m.owner;

-- partitions: List the partitions of a role.
select n, epoch, owner from {s}.partition where role = $1 order by n;

-- leave: Be a member no more.
delete from {s}.member where owner = $1 and role = $2;

-- free_partitions: Own nothing of a role any more.
update {s}.partition set owner = null where owner = $1 and role = $2;

-- take_partitions: Own partitions that no member owns, under new epochs; what is being committed under the old one is left for later.
update {s}.partition p set owner = $1, epoch = p.epoch + 1
where p.role = $2 and p.n = any(array(
    select t.n from {s}.partition t
    where t.role = $2 and t.n = any($3::int[])
      and (t.owner is null or t.owner = $1 or not exists (
          select from {s}.member m where m.owner = t.owner and m.role = t.role
          and (m.lease_until > now()
               or not exists (select from {s}.member me where me.owner = $1 and me.role = $2
                              and me.held_since < now() - make_interval(secs => $4)))))
    order by t.n for update skip locked))
returning p.n, p.epoch;

-- give_partition: Own a partition no more.
update {s}.partition set owner = null where role = $1 and n = $2 and epoch = $3 and owner = $4;

-- check_fences: Lock partitions against new owners until the commit; return those that have none.
select p.role, p.n, p.epoch from {s}.partition p
join unnest($1::text[], $2::int[], $3::bigint[]) as f (role, n, epoch) using (role, n, epoch)
order by p.role, p.n for share of p;

-- hold_keys: Note which messages hold their keys.
insert into {s}.held_key as h (role, key, partition, id)
select * from unnest($1::text[], $2::text[], $3::int[], $4::uuid[])
on conflict (role, key) do update set id = excluded.id, since = now() where h.id <> excluded.id;

-- free_keys: Note that messages hold their keys no more.
delete from {s}.held_key h
using unnest($1::text[], $2::text[], $3::int[], $4::uuid[]) as f (role, key, partition, id)
where h.role = f.role and h.key = f.key and h.id = f.id;

-- holds: List the keys of a partition that are held, or have a waiting list.
select key, h.id, w.key is not null as has_list
from (select key, id from {s}.held_key where role = $1 and partition = $2) as h
full join (select distinct key from {s}.waiting_list where role = $1 and partition = $2) as w
using (key);

-- hold_of: Say what keeps a key from going on.
select (select id from {s}.held_key where role = $1 and key = $2) as id,
       exists (select from {s}.waiting_list where role = $1 and key = $2) as has_list;

-- set_aside: Append messages to a key's waiting list, in order, and end their claims.
with ended as (delete from {s}.queue where n = any($9::bigint[]))
insert into {s}.waiting_list (role, key, partition, queue, id, generation, birth_ms, head, body)
select $7, $8, $10, queue, id, generation, birth_ms, head, body
from unnest($1::text[], $2::uuid[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[])
     with ordinality as p (queue, id, generation, birth_ms, head, body, place)
order by place
on conflict do nothing;

-- next_aside: Read the first messages of a key's waiting list.
select n, queue, id, generation, birth_ms, head, body
from {s}.waiting_list where role = $1 and key = $2 order by n limit $3;

-- strike: Take messages out of their waiting lists.
delete from {s}.waiting_list where n = any($1::bigint[]);

-- count_aside: Count what waits in waiting lists, by queue.
select queue, count(*) as n from {s}.waiting_list group by queue;

-- partition_counts: Say into how many partitions the keys of roles are divided.
select role, partitions from {s}.keyed_role where role = any($1::text[]);

-- left_in_partitions: Count what is still addressed to the partitions of a role.
select (select count(*) from {s}.queue where queue = any($2::text[]))
     + (select count(*) from {s}.schedule where queue = any($2::text[]))
     + (select count(*) from {s}.outbox where queues && $2::text[])
     + (select count(*) from {s}.waiting_list where role = $1);

-- divide_again: Divide the keys of a role anew; epochs go on from where they were.
with had as (delete from {s}.partition where role = $1 returning epoch),
made as (
    insert into {s}.keyed_role (role, partitions) values ($1, $2)
    on conflict (role) do update set partitions = excluded.partitions returning partitions)
select made.partitions, coalesce((select max(epoch) from had), 0) as epoch from made;

-- make_partitions: Make the partitions of a role.
insert into {s}.partition (role, n, epoch)
select $1, n, $3 from generate_series(0, $2::int - 1) as n;

-- dead_in_partitions: Read the dead letters of a role's partitions.
select id, queue, head from {s}.dead_letter where queue = any($1::text[]) and closed_at is null;

-- address_dead: Let dead letters go into other queues when they are replayed.
update {s}.dead_letter d set queue = a.queue
from unnest($1::text[], $2::text[]) as a (id, queue) where d.id = a.id;

-- move_holds: Tell held keys their partitions.
update {s}.held_key h set partition = a.partition
from unnest($2::text[], $3::int[]) as a (key, partition) where h.role = $1 and h.key = a.key;

-- held_keys: List the held keys of a role.
select key from {s}.held_key where role = $1;

-- make_buckets: Make buckets that are not there: their slots are free.
insert into {s}.bucket (name, free_ms) select unnest($1::text[]), 0 on conflict do nothing;

-- reserve: Reserve slots of buckets within a horizon, or line up; see model/rates.py, which says the same.
with asked as (
    select a.*, coalesce($7::float8, extract(epoch from clock_timestamp())::float8 * 1000) as now_ms
    from unnest($1::text[], $2::float8[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $8::float8[])
         as a (name, wanted, first, step_ms, burst, ahead_ms, long_ms)),
held as (
    select b.name, b.free_ms, b.line_ms from {s}.bucket b
    where b.name = any($1::text[]) order by b.name for update),
begun as (
    select a.*, h.line_ms, greatest(h.free_ms, a.now_ms - a.burst * a.step_ms) as start_ms
    from asked a join held h using (name)),
given as (
    select *,
           case when start_ms > now_ms + ahead_ms then 0
                else least(wanted, greatest(first, floor((now_ms + ahead_ms - start_ms) / step_ms) + 1)) end as granted
    from begun),
lined as (
    select *,
           case when long_ms > 0 and granted < wanted
                then least(greatest(line_ms, start_ms + granted * step_ms), now_ms + long_ms) end as place_ms
    from given),
moved as (
    update {s}.bucket b
    set free_ms = case when l.granted > 0 then l.start_ms + l.granted * l.step_ms else b.free_ms end,
        line_ms = case when l.place_ms is null then b.line_ms
                       else least(l.place_ms + (l.wanted - l.granted) * l.step_ms, l.now_ms + l.long_ms) end
    from lined l where b.name = l.name and (l.granted > 0 or l.place_ms is not null))
select name, start_ms - now_ms as start_ms, granted, coalesce(place_ms - now_ms, 0) as place_ms from lined;

-- drop_buckets: Drop buckets of which nobody wanted anything for long.
delete from {s}.bucket where greatest(free_ms, line_ms) < extract(epoch from now()) * 1000 - 3600000;

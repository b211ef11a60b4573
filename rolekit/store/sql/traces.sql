-- note_traces: Note that traces got spans, the worst that was seen in each, and the name of what began first.
insert into {s}.trace as old (id, grade, spans, name, begun_ns, ended_ns)
select * from unnest($1::uuid[], $2::smallint[], $3::int[], $4::text[], $5::bigint[], $6::bigint[])
on conflict (id) do update set
    grade = greatest(old.grade, excluded.grade), spans = old.spans + excluded.spans,
    name = case when old.begun_ns < excluded.begun_ns then old.name else excluded.name end,
    begun_ns = least(old.begun_ns, excluded.begun_ns),
    ended_ns = greatest(old.ended_ns, excluded.ended_ns);

-- keep_spans: Keep spans; what tells of the end of one replaces what told of its begin.
insert into {s}.span as old (trace, id, message, ended, data)
select * from unnest($1::uuid[], $2::text[], $3::uuid[], $4::boolean[], $5::bytea[])
on conflict (trace, id) do update set ended = excluded.ended, data = excluded.data
where excluded.ended or not old.ended;

-- drop_traces: Drop the oldest traces, among those that were as they should be and among others apart: where much is slow, that must not crowd out the rest.
with old as (
    delete from {s}.trace
    where n <= (select n from {s}.trace where grade = 0 order by n desc offset $1 limit 1)
            and grade = 0
        or n <= (select n from {s}.trace where grade > 0 order by n desc offset $2 limit 1)
            and grade > 0
    returning id
)
delete from {s}.span using old where span.trace = old.id;

-- traces_of: Say in which traces a message has spans, by its id or by that of a trace; the newest first.
select t.id from {s}.trace t
where t.id = $1 or t.id in (select trace from {s}.span where message = $1)
order by t.n desc limit $2;

-- spans_of: Read the spans of a trace.
select data from {s}.span where trace = $1 limit $2;

-- newest: List the newest traces.
select id, at, grade, spans, name, (ended_ns - begun_ns) / 1e9::float8 as seconds
from {s}.trace order by n desc limit $1;

-- begun: List the traces of which the first span was kept between two times, in order.
select id from {s}.trace where at between to_timestamp($1) and to_timestamp($2) order by n;

-- traces_with: List the traces that have spans of any of these messages.
select distinct trace as id from {s}.span where message = any($1::uuid[]);

-- spans_of_all: Read the spans of some traces.
select trace as id, data from {s}.span where trace = any($1::uuid[]);

-- recall: Ask every host for what it remembers of some traces.
insert into {s}.recall (root, trace, parent)
select * from unnest($1::text[], $2::text[], $3::text[]);

-- recalled: List the traces that were asked for lately.
select distinct root, trace from {s}.recall where at > now() - interval '10 s';

-- drop_recalls: Forget who was asked for a while ago; count those of whom too little was remembered.
with old as (delete from {s}.recall where at < now() - interval '15 s' returning trace, parent)
select count(*) from old where parent <> '' and not exists (
    select from {s}.span where span.trace = old.trace::uuid and span.id = old.parent
);

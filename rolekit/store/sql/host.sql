-- add_host: Take a lease for a host; returns its epoch.
insert into {s}.host (name, pid, started, lease_until)
values ($1, $2, $3, now() + make_interval(secs => $4)) returning epoch;

-- renew_host: Keep a host's lease, or take it again.
insert into {s}.host as held (epoch, name, pid, started, lease_until, roles)
values ($1, $2, $3, $4, now() + make_interval(secs => $5), $6)
on conflict (epoch) do update set
    lease_until = excluded.lease_until,
    roles = excluded.roles,
    held_since = case when held.lease_until < now() then now() else held.held_since end
returning epoch;

-- live_hosts: List hosts by name, to find those whose process is gone.
select epoch, name, pid, started from {s}.host where name = $1;

-- has_hosts: Say whether the app was ever set up here.
select to_regclass('{s}.host') is not null;

-- count_hosts: Count the hosts that hold a lease.
select count(*) from {s}.host where lease_until > now();

-- hosts_of_roles: Count the hosts that hold a lease, by the roles that run there.
select role, count(*) as hosts from {s}.host, unnest(roles) as role
where lease_until > now() group by role;

-- end_hosts: End these leases.
delete from {s}.host where epoch = any($1::bigint[]);

-- end_stale_hosts: End the leases that ran out long ago.
delete from {s}.host where lease_until < now() - interval '1 h';

-- orphan_outbox: Let any relay send what instances that died had not sent.
update {s}.outbox set owner = 0 where owner = any($1::bigint[]);

-- note_deaths: Note that instances died, against what they ran alone.
with dead as (insert into {s}.death (owner) select unnest($1::bigint[]) on conflict do nothing)
update {s}.trial set crashed = crashed + 1, owner = null where owner = any($1::bigint[]);

-- note_lost_trials: Note against what they ran alone that whole hosts were lost.
update {s}.trial t set crashed = crashed + 1, owner = null
where t.owner is not null
  and not exists (select from {s}.host h where h.epoch = t.owner >> 24);

-- end_trials: Note that instances ended in good order.
update {s}.trial set owner = null where owner = any($1::bigint[]);

-- end_members: Let others take over what instances that ended owned of their roles.
delete from {s}.member where owner = any($1::bigint[]) returning role;

-- end_stale_members: Forget members whose time ran out long ago.
delete from {s}.member where lease_until < now() - interval '1 h';

-- open_sequences: Count the sequences of these gathers that are in flight, no more of one than is asked; say how long the one that stood still longest has.
select asked.gather, s.open, coalesce(extract(epoch from now() - s.moved_at), 0)::float as stood_s
from unnest($1::text[]) as asked (gather),
     lateral (select count(*)::int as open, min(moved_at) as moved_at
              from (select moved_at from {s}.sequence
                    where state = 0 and gather = asked.gather and not is_stream
                    order by moved_at limit $2) as oldest) as s;

-- standing: Say how long sequences of these gathers have stood still, of each the one that has longest; but of none longer than is asked.
select asked.gather, extract(epoch from now() - s.moved_at)::float as stood_s
from unnest($1::text[], $2::float[]) as asked (gather, most_s),
     lateral (select moved_at from {s}.sequence
              where state = 0 and gather = asked.gather and not is_stream
                and moved_at > now() - make_interval(secs => asked.most_s)
              order by moved_at limit 1) as s;

-- cut_sessions: End the sessions of these names; say how many.
select count(*) filter (where pg_terminate_backend(pid))::int from pg_stat_activity
where application_name = any($1::text[]) and datname = current_database() and pid <> pg_backend_pid();

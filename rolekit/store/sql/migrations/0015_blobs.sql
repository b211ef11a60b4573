-- Blobs that nothing needs any more are dropped: when each was used last, and on which days a
-- relay looked for them.

alter table {s}.blob add column used_at timestamptz not null default now();
comment on column {s}.blob.used_at is 'when it was saved, loaded, or found referred to';
create index blob_used on {s}.blob (used_at);

alter table {s}.running_day add column is_swept boolean not null default false;
comment on column {s}.running_day.is_swept is 'a relay has looked for blobs to drop';

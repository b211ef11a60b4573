-- Traces that are kept after all, since something failed or was slow: for a few seconds, so
-- that every host hands in what its processes remember of them.

create unlogged table {s}.recall (
    root text not null,
    trace text not null,
    parent text not null,
    at timestamptz not null default now()
);
create index recall_at on {s}.recall (at);
comment on column {s}.recall.parent is 'the span behind which the first kept one stands';

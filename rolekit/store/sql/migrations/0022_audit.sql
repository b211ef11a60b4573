-- What operators changed: who, what, and what came of it. The newest 10,000.

create table {s}.audit (
    n bigserial primary key,
    at timestamptz not null default now(),
    who text not null,
    act text not null,
    what text not null,
    outcome text not null
);

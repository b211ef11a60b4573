-- What is known of instances that died, for brokers that do not tell who held what.

create table {s}.death (
    owner bigint primary key,
    at timestamptz not null default now()
);
create index death_at on {s}.death (at);

create table {s}.trial (
    id uuid not null,
    generation int not null,
    owner bigint,
    crashed smallint not null default 0,
    at timestamptz not null default now(),
    primary key (id, generation)
);
create index trial_owner on {s}.trial (owner) where owner is not null;
comment on table {s}.trial is 'messages that run, or ran, with nothing beside them in their instance';
comment on column {s}.trial.crashed is 'instances that died while they ran this message alone';

-- mailflow's own tables, beside those of rolekit. `MailFront.on_start` runs this, one
-- statement after another, under a lock; each may run again.

create schema if not exists mail;

-- A letter is kept once; `id` is a hash of the bytes.
create table if not exists mail.letter (
    id text primary key,
    raw bytea not null
);

create table if not exists mail.sent (
    id text primary key,
    sender text not null,
    letter text not null,
    copies int not null,
    accepted_at timestamptz not null
);

-- No unique index on what makes a copy: a copy delivered twice must be seen, not prevented.
create table if not exists mail.mailbox (
    n bigint generated always as identity,
    owner text not null,
    mail_id text not null,
    position int not null,
    sender text not null,
    letter text not null,
    folder text not null,
    score real not null,
    step_id text not null,
    accepted_at timestamptz not null,
    delivered_at timestamptz not null default clock_timestamp()
);

create index if not exists mailbox_by_owner on mail.mailbox (owner, n);

create index if not exists mailbox_by_mail on mail.mailbox (mail_id);

create index if not exists mailbox_by_n on mail.mailbox (n);

-- In the order of `n`, the lines of a report as they closed; again nothing prevents repeats.
create table if not exists mail.report (
    n bigint generated always as identity,
    mail_id text not null,
    number int not null,
    rcpt text not null,
    outcome text not null,
    detail text not null
);

create index if not exists report_by_mail on mail.report (mail_id, n);

-- Days are made and dropped by whoever runs the app, and only by these: so that user owns
-- nothing and needs no right to create. They run with the rights of the owner of the schema.
create function {s}.make_days(of_table text, first_day int, last_day int) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
begin
    if of_table not in ('inbox', 'sent') then
        raise exception 'there are no days of %', of_table;
    end if;
    for day in first_day..last_day loop
        execute format(
            'create table if not exists {s}.%I partition of {s}.%I for values from (%s) to (%s)',
            of_table || '_' || day, of_table, day, day + 1);
    end loop;
end
$body$;

create function {s}.drop_day(of_table text, day int) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
begin
    if of_table not in ('inbox', 'sent') then
        raise exception 'there are no days of %', of_table;
    end if;
    execute format('drop table if exists {s}.%I', of_table || '_' || day);
end
$body$;

revoke execute on function {s}.make_days, {s}.drop_day from public;

-- Every request that a model answered, one row each, in partitions by day.
create table dockyard.predictions (
    time        timestamptz not null,
    writer      uuid        not null,
    sequence    bigint      not null,
    request_id  text        not null,
    model       text,
    version     text,
    path        text,
    status      integer     not null,
    latency_ms  double precision not null,
    stages      jsonb,
    batch_rows  integer,
    inputs      jsonb,
    outputs     jsonb,
    client      text,
    primary key (time, writer, sequence)
) partition by range (time);

create index on dockyard.predictions (model, version, time);
create index on dockyard.predictions (request_id);

comment on column dockyard.predictions.stages is 'milliseconds by stage: queue, inference …';
comment on column dockyard.predictions.batch_rows is 'rows of the model call that answered it';

-- How far each process has come: written in the same transaction as its rows, so that a batch
-- whose commit wasn't heard of is known to be there, or not.
create table dockyard.writers (
    writer      uuid primary key,
    sequence    bigint not null,
    updated     timestamptz not null default now()
);

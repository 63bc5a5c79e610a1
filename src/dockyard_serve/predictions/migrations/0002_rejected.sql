-- Rows that the database wouldn't take, kept as the text that was sent, with what it said.
create table dockyard.rejected (
    time        timestamptz not null default now(),
    writer      uuid        not null,
    sequence    bigint      not null,
    reason      text        not null,
    line        bytea       not null,
    primary key (writer, sequence)
);

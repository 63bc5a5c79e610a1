"""`dockyard predictions`: look at what a stack's app has answered.

Rules: the log is read where it can be reached: inside the app's container, whose image has the
reader and whose environment says where the log is. --url and --log-dir read one from here.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from dockyard.errors import StackError, UsageError

_SHOWN = 20  # Records that a table shows unless more are asked for.
_COLUMNS = ("time", "model", "version", "status", "latency_ms", "outputs")


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--model", help="Only this model.")
@click.option("--version", help="Only this version of it.")
@click.option("--status", metavar="STATUS", help="200, 5xx, or error (400 and above).")
@click.option("--since", metavar="TIME", help="Not older: 15m, 2h, 7d, or 2026-11-24T10:00.")
@click.option("--until", metavar="TIME", help="Older than that.")
@click.option("--request-id", metavar="ID", help="Only the request of this id.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    help=f"At most so many. Default: {_SHOWN}, or all with --json and --csv.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on each line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option("--service", default="web", show_default=True, help="The service that is asked.")
@click.option("--url", metavar="URL", help="Read this PostgreSQL database instead.")
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path),
    help="Read the SQLite file in this folder instead.",
)
def predictions(
    *,
    folder: Path,
    limit: int | None,
    as_json: bool,
    as_csv: bool,
    service: str,
    url: str | None,
    log_dir: Path | None,
    **filters: str | None,
) -> None:
    """List the predictions of the stack in FOLDER, newest first."""
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    if url and log_dir:
        raise UsageError("--url and --log-dir exclude each other")
    given = {name: value for name, value in filters.items() if value is not None}
    if limit is None and not (as_json or as_csv):
        limit = _SHOWN
    if url or log_dir:
        records = _from_here(given, limit, url, log_dir)
    else:
        records = _from_service(folder, service, given, limit)
    if as_json:
        for record in records:
            print(json.dumps(record, ensure_ascii=False))
    elif as_csv:
        _print_csv(records)
    else:
        _print_records(list(records))


def _from_here(
    given: dict[str, str], limit: int | None, url: str | None, log_dir: Path | None
) -> Iterator[dict[str, Any]]:
    from dockyard_serve.predictions import query
    from dockyard_serve.predictions.settings import read_settings

    environ = {"DATABASE_URL": url} if url else {"LOG_DIR": str(log_dir)}
    try:
        filters = query.Filters(
            model=given.get("model"),
            version=given.get("version"),
            request_id=given.get("request_id"),
            since=query.parse_moment(given["since"]) if "since" in given else None,
            until=query.parse_moment(given["until"]) if "until" in given else None,
            statuses=query.parse_status(given["status"]) if "status" in given else None,
            limit=limit,
        )
        yield from query.read_log(read_settings(environ), filters)
    except query.QueryError as error:
        raise StackError(str(error)) from error
    except ImportError as error:
        raise StackError(
            "psycopg isn't installed here", hint="Install it: pip install 'psycopg[binary]'"
        ) from error


def _from_service(
    folder: Path, service: str, given: dict[str, str], limit: int | None
) -> Iterator[dict[str, Any]]:
    from dockyard.cli.up import find_stack

    compose = find_stack(folder)
    words = ["exec", "-T", service, "python", "-m", "dockyard_serve.predictions"]
    words += [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    words += [] if limit is None else [f"--limit={limit}"]
    with subprocess.Popen(
        compose.words(*words),
        cwd=compose.folder,
        env=dict(compose.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            yield json.loads(line)
        said = process.stderr.read().strip()
    if process.returncode:
        raise _refusal(service, said)


def _refusal(service: str, said: str) -> StackError:
    lines = [line for line in said.splitlines() if "level=warning" not in line]
    last = lines[-1] if lines else "it gives no reason"
    if "is not running" in last:
        return StackError(f"{service} doesn't run", hint="Start the stack: dockyard up -d")
    if "No module named" in last or "executable file not found" in last:
        return StackError(
            f"{service} keeps no predictions: its image has no prediction log",
            hint="docs/prediction-log.md says how an app gets one.",
        )
    return StackError(last)


def _print_csv(records: Iterator[dict[str, Any]]) -> None:
    from dockyard_serve.predictions.query import FIELDS

    writer = csv.DictWriter(sys.stdout, FIELDS)
    for number, record in enumerate(records):
        if not number:
            writer.writeheader()
        writer.writerow(
            {
                name: json.dumps(value) if isinstance(value, dict | list) else value
                for name, value in record.items()
            }
        )


def _print_records(records: list[dict[str, Any]]) -> None:
    from dockyard.cli.output import print_table

    if not records:
        click.echo("No predictions match.", err=True)
        return
    rows = [
        [
            record["time"][:23].replace("T", " "),
            record["model"] or "",
            record["version"] or "",
            str(record["status"]),
            f"{record['latency_ms']:.1f} ms",
            _cut(json.dumps(record["outputs"], separators=(",", ":"), ensure_ascii=False)),
        ]
        for record in records
    ]
    headers = [name.replace("latency_ms", "latency") for name in _COLUMNS]
    print_table(headers, rows, right="latency", shrink="outputs")


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"

"""`[stack]` of the configuration: what is read, and how mistakes are told."""

from __future__ import annotations

import json
import tomllib

import jsonschema
import pytest

from dockyard.app.config import load_config, parse_config
from dockyard.app.schema import json_schema
from dockyard.errors import ConfigError

# setting, attribute, value
GOOD = [
    ('database = "postgres"', "database", "postgres:18"),
    ('database = "postgres:17.2"', "database", "postgres:17.2"),
    (
        'database = "r.example/a/postgres-pgvector:18"',
        "database",
        "r.example/a/postgres-pgvector:18",
    ),
    ("database = false", "database", None),
    ("monitoring = true", "monitoring", "grafana"),
    ('monitoring = "prometheus"', "monitoring", "prometheus"),
    ("monitoring = false", "monitoring", None),
    ("replicas = 3", "replicas", 3),
    ('gpus = "all"', "gpus", "all"),
    ("gpus = 2", "gpus", 2),
    ('gpus = [0, "GPU-8a56"]', "gpus", ("0", "GPU-8a56")),
    ("cpus = 1.5", "cpus", 1.5),
    ('memory = "4G"', "memory", "4g"),
    ("publish = 8080", "publish", "127.0.0.1:8080"),
    ('publish = "0.0.0.0:80"', "publish", "0.0.0.0:80"),
    ('publish = "[::1]:80"', "publish", "[::1]:80"),
    ("publish = false", "publish", None),
    ("publish = true", "publish", ""),
    ('volumes = "./a:/a:ro"', "volumes", ("./a:/a:ro",)),
    ("env = { N = 1 }", "env", {"N": "1"}),
    ('name = "digits-2"', "name", "digits-2"),
    ('restart = "no"', "restart", "no"),
    ('services = { redis = { image = "redis:8" } }', "services", {"redis": {"image": "redis:8"}}),
]


@pytest.mark.parametrize(("text", "key", "value"), GOOD, ids=[row[0][:40] for row in GOOD])
def test_reads_a_stack(text, key, value):
    table = tomllib.loads(f"[stack]\n{text}")
    jsonschema.Draft202012Validator(json_schema()).validate(table)
    assert getattr(parse_config(table).stack, key) == value


# setting, what the message says, what is wrong
BAD = [
    ('databse = "postgres"', "did you mean `database`?", "a misspelt key"),
    ('database = "mysql"', 'the database is "postgres"', "a database there isn't"),
    ("database = true", "must name a database", "no name"),
    ('database = "postgres:"', "is no image", "an empty tag"),
    ('database = "postgres@sha256:12"', "64 hex digits", "a short digest"),
    ('monitoring = "datadog"', '"prometheus" or false', "monitoring there isn't"),
    ('images = { web = "a" }', "has no image of its own", "an image of the app"),
    ("replicas = 0", "from 1 to 100", "no replica"),
    ("replicas = true", "from 1 to 100", "a truth value"),
    ('gpus = "two"', "names no GPUs", "a word"),
    ("gpus = 0", "names no GPUs", "no GPU"),
    ("gpus = [0, 0]", "names no GPUs", "one GPU twice"),
    ("gpus = []", "names no GPUs", "an empty list"),
    ('memory = "lots"', "is no size", "a word for a size"),
    ("cpus = 0", "number of cores", "no core"),
    ("publish = 0", "nowhere to publish", "port zero"),
    ('publish = "localhost:80"', "nowhere to publish", "a name for an address"),
    ('publish = "8080:80"', "nowhere to publish", "a mapping"),
    ('volumes = ["data"]', "is no volume", "a volume without a path"),
    ('volumes = ["a:/x/../etc"]', "no proper path", "a path that climbs"),
    ('name = "My Stack"', "is no stack's name", "a name with a blank"),
    ('restart = "sometimes"', '"unless-stopped"', "a policy there isn't"),
    ('secrets = { db-password = "x" }', "made by itself", "the name of ours"),
    ('secrets = { "a b" = "x" }', "no secret's name", "a name with a blank"),
    ('secrets = { a = "/etc/shadow" }', "inside the project", "an absolute path"),
    ('services = { web = { image = "a" } }', "choose another name", "a name of ours"),
    ('services = { redis = "redis:8" }', "must be a table", "a string for a service"),
    ('services = { redis = { imgae = "redis" } }', "`image` or `build`", "no image"),
]


@pytest.mark.parametrize(("text", "message", "row"), BAD, ids=[row[2] for row in BAD])
def test_refuses_what_is_wrong_in_a_stack(tmp_path, text, message, row):
    (tmp_path / "dockyard.toml").write_text(f"\n[stack]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith("dockyard.toml:3: `stack.")


def test_names_a_secret_whose_file_is_missing(tmp_path):
    (tmp_path / "dockyard.toml").write_text('[stack]\nsecrets = { key = "no-file" }\n')
    with pytest.raises(ConfigError, match=r"`stack\.secrets\.key` names 'no-file'"):
        load_config(tmp_path)


def test_the_schema_of_a_stack_says_what_every_key_means():
    table = json_schema()["$defs"]["StackConfig"]["properties"]
    assert all(value["description"] for value in table.values())
    assert json.dumps(table)

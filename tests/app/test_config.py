"""dockyard.toml and [tool.dockyard]: what is read, and how mistakes are told."""

from __future__ import annotations

import json
import tomllib
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.app.config import AppConfig, image_environment, load_config, parse_config
from dockyard.app.envfile import parse_env_file
from dockyard.app.positions import key_lines
from dockyard.app.schema import json_schema, reference_table, schema_text
from dockyard.app.values import Port, duration, duration_text, looks_secret
from dockyard.errors import ConfigError

DOCS = Path(__file__).parents[2] / "docs"


def load(folder, text, name="dockyard.toml"):
    (folder / name).write_text(text)
    return load_config(folder)[0]


def refused(folder, text, name="dockyard.toml"):
    (folder / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(folder)
    return str(caught.value)


# text, attribute, value
GOOD = [
    ('base = "trixie"', "base", "trixie"),
    ('base = "python:3.12-slim"', "base", "python:3.12-slim"),
    ('base = "registry.example:5000/a/b@sha256:' + "0" * 64 + '"', "base", None),
    ('base = "oci:../base"', "base", "oci:../base"),
    ('python = "3.11"', "python", "3.11"),
    ('python = ">=3.11,<3.14"', "python", ">=3.11,<3.14"),
    ('apt = ["libgl1", "ffmpeg"]', "apt", ("libgl1", "ffmpeg")),
    ('apt = "libstdc++6"', "apt", ("libstdc++6",)),
    ("shell = false", "shell", False),
    ('requirements = ["torch>=2.4", "flask"]', "requirements", ("torch>=2.4", "flask")),
    ('requirements = "r.txt"', "requirements", ("r.txt",)),
    ('extras = ["GPU_Support"]', "extras", ("gpu-support",)),
    ('groups = "serve"', "groups", ("serve",)),
    ('accelerator = "cuda"', "accelerator", "cuda"),
    ('include = ["data/*.csv"]', "include", ("data/*.csv",)),
    ('env = { A = "b", N = 3 }', "env", {"A": "b", "N": "3"}),
    ('env-file = "e.env"', "env_file", ("e.env",)),
    ("command = \"python app.py --name 'a b'\"", "command", ("python", "app.py", "--name", "a b")),
    ('command = ["sh", "-c", "a && b"]', "command", ("sh", "-c", "a && b")),
    ("command = \"python -c 'print(1); exit()'\"", "command", ("python", "-c", "print(1); exit()")),
    ('entrypoint = ["tini", "--"]', "entrypoint", ("tini", "--")),
    ('workdir = "/srv/app/"', "workdir", "/srv/app"),
    ('ports = [8080, "53/udp"]', "ports", (Port(8080), Port(53, "udp"))),
    ("ports = 8080", "ports", (Port(8080),)),
    ("user = 10001", "user", "10001"),
    ('user = "app:app"', "user", "app:app"),
    ('name = "registry.example/team/app"', "name", "registry.example/team/app"),
    ('tags = ["1.0", "latest", "1.0"]', "tags", ("1.0", "latest")),
    ('platforms = ["aarch64", "linux/amd64"]', "platforms", ("linux/arm64", "linux/amd64")),
    ('bytecode = "all"', "bytecode", "all"),
    ("trim = true", "trim", True),
    ('labels = { "org.example.x" = "y" }', "labels", {"org.example.x": "y"}),
    ('compression = "zstd"', "compression", "zstd"),
    ('prefer = ["opencv_python"]', "prefer", ("opencv-python",)),
    ('\ufeffname = "app"\r\n', "name", "app"),
]


@pytest.mark.parametrize(("text", "key", "value"), GOOD, ids=[row[0][:40] for row in GOOD])
def test_reads_what_is_right(tmp_path, text, key, value):
    (tmp_path / "r.txt").touch()
    (tmp_path / "e.env").touch()
    config = load(tmp_path, text)
    assert getattr(config, key) == (value if value is not None else tomllib.loads(text)[key])


# text, line, what the message says, what is wrong
BAD = [
    ('nmae = "a"', 1, "did you mean `name`?", "a misspelt key"),
    ("\n\nPorts = [1]", 3, "did you mean `ports`?", "capitals"),
    ('env_file = "a"', 1, "did you mean `env-file`?", "an underscore"),
    ('cmd = "a"', 1, "did you mean `command`?", "Docker's word"),
    ("zzzqqq = 1", 1, "the settings are", "a key that resembles none"),
    ("[healthcheck]\nstart = '3s'", 2, "did you mean", "a misspelt key in a table"),
    ('shell = "no"', 1, "must be true or false", "a word for a truth value"),
    ("shell = 0", 1, "must be true or false", "a number for a truth value"),
    ("name = 3", 1, "must be a string", "a number for a string"),
    ('name = "Team/App"', 1, "'team/app' would do", "capitals in an image name"),
    ('name = "app:1"', 1, "tags go into `tags`", "a tag in the name"),
    ('name = "a//b"', 1, "is no image name", "an empty component"),
    ("tags = [1.0]", 1, '"1.0"', "a tag that is a number"),
    ('tags = ["-x"]', 1, "is no tag", "a tag that begins with a dash"),
    ('base = "python:3.12 slim"', 1, "is no tag", "a base with a blank"),
    ('base = "a@sha256:12"', 1, "digest", "a digest that is too short"),
    ("python = 3.10", 1, "in quotes", "a Python that is a number"),
    ('python = "2.7"', 1, "is no Python version", "a Python of the past"),
    ('python = "latest"', 1, "is no Python version", "a Python that is no version"),
    ('apt = ["lib gl1"]', 1, "is no Debian package", "a blank in a package"),
    ('apt = ["ok",\n  "--yes"]', 2, "`apt[2]`", "an option for a package, on line 2"),
    ('requirements = "none.txt"', 1, "is no file here", "a file that isn't there"),
    ('requirements = "../r.txt"', 1, "inside the project", "a path that leads out"),
    ('requirements = "/r.txt"', 1, "inside the project", "an absolute path"),
    ('requirements = ["torch>>2"]', 1, "neither a file", "a bad requirement"),
    ('accelerator = "gpu"', 1, '"auto", "cpu" or "cuda"', "an accelerator there isn't"),
    ('bytecode = "profil"', 1, 'did you mean "profile"?', "a misspelt choice"),
    ('include = ["!a"]', 1, "`include` brings back", "an exclamation mark"),
    ('exclude = "../a"', 1, "inside the project", "a pattern that leads out"),
    ('[env]\n"9A" = "x"', 2, "can't name a variable", "a digit first"),
    ("[env]\nA = true", 2, "in quotes, not true", "a truth value in a variable"),
    ("[env]\nA = ['x']", 2, "in quotes", "a list in a variable"),
    ("[env]\nA = 'x'\nports = [1]", 3, "put it above", "a setting below a header"),
    ("env = 'A=b'", 1, "must be a table", "a string for a table"),
    ('env-file = "no.env"', 1, "is no file here", "an env file that isn't there"),
    ('command = "a && b"', 1, "needs a shell ('&')", "a shell's operator"),
    ('command = "python app.py --port $PORT"', 1, "needs a shell ('$')", "a variable"),
    ('command = "A=b python app.py"', 1, "needs a shell ('A=b')", "an assignment"),
    ('command = "python \'app.py"', 1, "quote", "an open quote"),
    ('command = ["python", 3]', 1, "each word", "a number among words"),
    ('command = ["a", "&&", "b"]', 1, "to a shell only", "an operator among words"),
    ("command = []", 1, "must name a program", "no command"),
    ('workdir = "app"', 1, "must be absolute", "a relative folder"),
    ('workdir = "/usr/lib"', 1, "belongs to the system", "a folder of the system"),
    ('workdir = "/a/../usr"', 1, "plain path", "a folder that climbs"),
    ("ports = [0]", 1, "1 to 65535", "port zero"),
    ("ports = [1, 99999]", 1, "`ports[2]` 99999", "a port that is too large"),
    ('ports = ["8080:80"]', 1, "dockyard run -p", "a mapping"),
    ('ports = ["80/sctp"]', 1, "neither tcp nor udp", "a protocol there isn't"),
    ("ports = [true]", 1, "is no port", "a truth value"),
    ('user = "a b"', 1, "is no user", "a user with a blank"),
    ('user = "-1"', 1, "is no user", "a negative user"),
    ("user = 99999999999", 1, "larger than any", "a user that is too large"),
    ("healthcheck = 3", 1, "must be a table", "a number for a table"),
    ('healthcheck = "health"', 1, "must be a path", "a path without a slash"),
    ("[healthcheck]\ninterval = 30", 2, "is no duration", "a number for a duration"),
    ('[healthcheck]\ninterval = "30"', 2, "is no duration", "a duration without a unit"),
    ('[healthcheck]\ninterval = "0s"', 1, "above zero", "no interval"),
    ("[healthcheck]\nretries = 0", 2, "from 1 to 100", "no retries"),
    ('[healthcheck]\npath = "/a"\ncommand = "b"', 1, "one of them", "a path and a command"),
    ('shell = false\ncommand = ["sh", "-c", "a"]', 2, "`shell` is false", "no shell, yet one"),
    ('platforms = "windows/amd64"', 1, "isn't supported", "another system"),
    ('labels = { "a b" = "c" }', 1, "white space", "a label with a blank"),
    ("labels = { a = 1 }", 1, "must be a string", "a label that is a number"),
    ('compression = "lzma"', 1, '"gzip" or "zstd"', "a compression there isn't"),
    ('prefer = ["a b"]', 1, "is no name of a package", "a package with a blank"),
    ("a = [1,", 1, "isn't valid TOML", "a list that isn't closed"),
    ("name = 'a'\nname = 'b'", 2, "isn't valid TOML", "a key twice"),
    ('\n\nname = "a\n', 3, "isn't valid TOML", "a string that isn't closed"),
    ("x = " + "[" * 20000, None, "dockyard.toml", "lists without end"),
]


@pytest.mark.parametrize(("text", "line", "message", "row"), BAD, ids=[row[3] for row in BAD])
def test_refuses_what_is_wrong_and_names_the_line(tmp_path, text, line, message, row):
    said = refused(tmp_path, text)
    assert message in said
    if line is not None:
        assert said.startswith(f"dockyard.toml:{line}: ")


def test_names_all_mistakes_in_the_order_of_the_file(tmp_path):
    said = refused(tmp_path, 'trim = 1\nports = [1, 0]\nnmae = "a"\n[env]\n"a b" = "c"\n')
    places = [line.split(": ")[0] for line in said.splitlines() if line.startswith("dockyard")]
    assert places == [f"dockyard.toml:{line}" for line in (1, 2, 3, 5)]


def test_says_that_a_file_is_not_utf8(tmp_path):
    (tmp_path / "dockyard.toml").write_bytes(b'name = "a"\nbase = "\xff"\n')
    with pytest.raises(ConfigError, match="UTF-8") as caught:
        load_config(tmp_path)
    assert caught.value.where == "dockyard.toml:2"


def test_reads_the_table_in_pyproject_with_its_own_lines(tmp_path):
    config = load(tmp_path, '[tool.dockyard]\nname = "a"\n', "pyproject.toml")
    assert config.name == "a"
    origin = load_config(tmp_path)[1]
    assert origin.where("name") == "pyproject.toml:2"
    said = refused(tmp_path, "[project]\nname='a'\n[tool.dockyard.env]\nA = 1.5", "pyproject.toml")
    assert said.startswith("pyproject.toml:4: `env.A`")


def test_refuses_settings_in_both_files(tmp_path):
    (tmp_path / "dockyard.toml").write_text('name = "a"')
    assert "two places" in refused(tmp_path, '[tool.dockyard]\nname = "a"', "pyproject.toml")
    (tmp_path / "dockyard.toml").write_text("# nothing yet\n")
    assert load_config(tmp_path)[0].name == "a"


def test_without_a_file_everything_is_at_its_default(tmp_path):
    config, origin = load_config(tmp_path)
    assert config == AppConfig()
    assert (origin.name, origin.where("name")) == ("", "")
    assert (config.workdir, config.user, config.shell, config.bytecode, config.compression) == (
        *("/app", "10001", True, "profile", "gzip"),
    )


def test_a_configuration_cannot_be_changed():
    config = parse_config({"env": {"A": "b"}})
    with pytest.raises(ValueError, match="frozen"):
        config.name = "x"
    with pytest.raises(TypeError):
        config.env["B"] = "c"


def test_short_forms_of_the_health_check():
    assert parse_config({"healthcheck": False}).healthcheck.enabled is False
    assert parse_config({"healthcheck": "/ready"}).healthcheck.path == "/ready"
    table = {"path": "/x", "interval": "1m30s", "start-period": "2m", "retries": 5}
    health = parse_config({"healthcheck": table}).healthcheck
    assert (health.interval, health.start_period, health.retries) == (
        timedelta(seconds=90),
        timedelta(minutes=2),
        5,
    )


def test_warns_of_secrets_with_their_line(tmp_path):
    (tmp_path / "a.env").write_text("HF_TOKEN=abc\nMODE=x\n")
    (tmp_path / "dockyard.toml").write_text(
        'env-file = "a.env"\n[env]\nDB_PASSWORD = "x"\nMAX_TOKENS = 5\nAPI_KEY = ""\n'
    )
    warnings = load_config(tmp_path)[1].warnings
    assert [line.split(" looks")[0] for line in warnings] == [
        "dockyard.toml:3: DB_PASSWORD",
        "a.env: HF_TOKEN",
    ]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *(("API_KEY", True), ("OPENAI_API_KEY", True), ("SECRET_KEY", True), ("TOKEN", True)),
        *(("DBPASSWORD", True), ("AWS_SECRET_ACCESS_KEY", True), ("password", True)),
        *(("MAX_TOKENS", False), ("TOKENIZERS_PARALLELISM", False), ("KEYBOARD", False)),
        *(("MONKEY", False), ("SECRET_FILE", False), ("TOKEN_PATH", False), ("MODEL_PATH", False)),
    ],
)
def test_knows_secrets_by_their_names(name, secret):
    assert looks_secret(name) is secret


def test_env_wins_over_env_file(tmp_path):
    (tmp_path / "a.env").write_text("A=1\nB=2\n")
    (tmp_path / "b.env").write_text("B=3\nC=4\n")
    config = load(tmp_path, 'env-file = ["a.env", "b.env"]\nenv = { C = "5" }')
    assert image_environment(config, tmp_path) == {"A": "1", "B": "3", "C": "5"}


# line, what it gives, what the row is about
ENV_FILE = [
    ("A=b", {"A": "b"}, "a variable"),
    ("A=", {"A": ""}, "an empty value"),
    ("A=b=c", {"A": "b=c"}, "an equals sign in the value"),
    ('A="b c"', {"A": '"b c"'}, "quotes are part of the value"),
    ("A=$HOME", {"A": "$HOME"}, "no variable is replaced"),
    ("A=b # c", {"A": "b # c"}, "a hash that isn't first is part of the value"),
    ("  A=b", {"A": "b"}, "blanks before are dropped"),
    ("A=b  ", {"A": "b  "}, "blanks after are kept"),
    ("# A=b", {}, "a comment"),
    ("   # A=b", {}, "a comment after blanks"),
    ("", {}, "nothing"),
    ("A=1\r\nB=2", {"A": "1", "B": "2"}, "lines of Windows"),
    ("A=1\nA=2", {"A": "2"}, "the last one counts"),
    ("FROM_HOST", {"FROM_HOST": "yes"}, "a name alone is taken from the caller"),
    ("NOT_THERE", {}, "or left out"),
    ("\ufeffA=b", {"A": "b"}, "a byte-order mark"),
]


@pytest.mark.parametrize(("text", "expected", "row"), ENV_FILE, ids=[row[2] for row in ENV_FILE])
def test_reads_env_files_as_docker_does(text, expected, row):
    found = parse_env_file(text.encode(), where="e", host={"FROM_HOST": "yes"})
    assert found == expected


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"A=1\nexport B=2", "e:2"),
        (b"A = 1", "e:1"),
        (b"=x", "e:1"),
        (b"A=1\nB=\xff", "e:2"),
        (b"ALONE", "e:1"),
        (b"A=\0", "e:1"),
    ],
)
def test_names_the_line_of_a_bad_env_file(data, where):
    with pytest.raises(ConfigError) as caught:
        parse_env_file(data, where="e", host=None)
    assert caught.value.where == where


def test_the_schema_is_valid_and_says_what_the_parser_says(tmp_path):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    (tmp_path / "r.txt").touch()
    for text, *_ in GOOD:
        validator.validate(tomllib.loads(text.removeprefix("\ufeff")))
    for text in ('nmae = "a"', 'shell = "no"', "ports = [true]", 'bytecode = "x"', "env = 'a'"):
        assert not validator.is_valid(tomllib.loads(text))
    assert all(value.get("description") for value in schema["properties"].values())


def test_the_docs_have_the_schema_and_the_table_as_they_are():
    assert (DOCS / "dockyard.schema.json").read_text() == schema_text()
    assert reference_table() in (DOCS / "configuration.md").read_text()


def test_the_example_in_the_docs_is_right(tmp_path):
    text = (DOCS / "configuration.md").read_text().split("```toml\n")[1].split("```")[0]
    (tmp_path / "requirements.txt").touch()
    assert load(tmp_path, text).ports == (Port(8000),)


keys = st.text("abcxyz-_ é\"'.#[", min_size=1, max_size=6)
scalars = st.one_of(
    st.booleans(), st.integers(-9, 9), st.text("ab \"'\\\n#[]{}=,é", max_size=8), st.just(1.5)
)
tables = st.recursive(
    st.dictionaries(keys, scalars, max_size=4),
    lambda inner: st.dictionaries(
        keys, st.one_of(scalars, inner, st.lists(st.one_of(scalars, inner), max_size=3)), max_size=4
    ),
    max_leaves=12,
)


def paths(value, prefix=()):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*prefix, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*prefix, key))


@given(tables)
def test_finds_the_line_of_every_key(document):
    import tomlkit

    text = tomlkit.dumps(document)
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # tomlkit writes some odd keys wrongly; not what is tested here
    lines = key_lines(text)
    assert set(lines) == set(paths(parsed))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


def test_lines_of_headers_dots_lists_and_long_strings():
    text = (
        'a.b = 1\n[t]\nx = """\n[no]\ny = 1\n"""\nz = [\n  1, # c\n  { q = 2 },\n]\n'
        '[[l]]\nk = 1\n[[l]]\nk = 2\n[l.m]\nn = \'\'\'\n\'\'\'\n"q.r" = """"x"""""\nlast = 1\n'
    )
    assert set(key_lines(text)) == set(paths(tomllib.loads(text)))
    lines = key_lines(text)
    assert lines["t", "z", 1, "q"] == 9
    assert lines["l", 1, "k"] == 14
    assert lines["l", 1, "m", "last"] == 19


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(sorted(json_schema()["properties"])), st.text(max_size=8)),
        values,
        max_size=5,
    )
)
def test_no_settings_end_in_anything_but_a_configuration_or_its_error(settings):
    try:
        found = parse_config(settings)
    except ConfigError as error:
        found = error
    assert isinstance(found, AppConfig) or found.what


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_no_text_ends_in_a_traceback(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("config")
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    (folder / "dockyard.toml").write_bytes(data)
    try:
        said = load_config(folder)[1].name
    except ConfigError as error:
        said = str(error)
    assert said.startswith("dockyard.toml")


@given(st.integers(0, 86_400_000))
def test_durations_are_written_as_they_are_read(milliseconds):
    value = timedelta(milliseconds=milliseconds)
    assert duration(duration_text(value)) == value


def test_the_schema_is_json():
    assert json.loads(schema_text()) == json_schema()

"""Decide a stack: which services stand beside the app, and what they know of each other.

Rules: nothing is touched. The database is on a network of its own without a way out, which only the
app joins; what is published is published on 127.0.0.1 unless the configuration says otherwise;
passwords are files. The app's image carries its own health check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockyard.app.stack_config import POSTGRES, StackConfig
from dockyard.stack.monitoring import monitoring_files
from dockyard.stack.parts import PASSWORD, SECRETS, Check, Service, Stack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dockyard.app.config import AppConfig
    from dockyard.app.detect import Detected

PROMETHEUS = "prom/prometheus:v3.5.0"
GRAFANA = "grafana/grafana:12.1.0"

_BACKEND = "backend"
_GRAFANA_PASSWORD = "grafana-password"  # noqa: S105 - the secret's name
_DATABASE = "app"
_MONITORING = "monitoring"


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """What a stack needs to know of the app's image.

    port: the one that it listens on, None if none; has_check: whether the image has a health
    check; writable: absolute folders that it writes to.
    """

    image: str
    port: int | None = None
    has_check: bool = True
    log_dir: str | None = None
    writable: tuple[str, ...] = ()


def app_of(detected: Detected, config: AppConfig) -> App:
    """What was detected about an app, as far as its stack must know."""
    ports = [port.number for port in detected.ports.value if port.protocol == "tcp"]
    return App(
        image=f"{detected.name.value}:{config.tags[0]}",
        port=ports[0] if ports else None,
        has_check=detected.healthcheck.value is not None,
        log_dir=detected.variables().get("LOG_DIR"),
        writable=tuple(item.value for item in detected.writable),
    )


def stack_name(config: StackConfig, image: str) -> str:
    """The stack's name: the configured one, else made of the image's."""
    if config.name is not None:
        return config.name
    last = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return re.sub(r"[^a-z0-9_-]+", "-", last.lower()).strip("-_") or "app"


def plan_stack(config: StackConfig, app: App, *, files_at: str = ".") -> Stack:
    """Decide the stack of an app.

    files_at: folder that its further files are written to, relative to the project.
    """
    name = stack_name(config, app.image)
    web = _web(config, app)
    services = [web]
    secrets = {key: f"./{path}" for key, path in config.secrets.items()}
    volumes = [mount.partition(":")[0] for mount in web.mounts if _is_named(mount)]
    files: Mapping[str, str] = {}
    if config.database is not None:
        services.append(_database(config.database, config.restart))
        secrets[PASSWORD] = f"{SECRETS}/{PASSWORD}"
        volumes.append("db-data")
    if config.monitoring is not None:
        grafana = config.monitoring == "grafana"
        services.append(_prometheus(config, files_at))
        volumes.append("prometheus-data")
        if grafana:
            services.append(_grafana(config, files_at))
            secrets[_GRAFANA_PASSWORD] = f"{SECRETS}/{_GRAFANA_PASSWORD}"
            volumes.append("grafana-data")
        found = monitoring_files(port=app.port or 8080, grafana=grafana)
        files = {f"{_MONITORING}/{path}": text for path, text in found.items()}
    for service in config.services.values():
        named = [mount for mount in service.get("volumes", ()) if isinstance(mount, str)]
        volumes += [mount.partition(":")[0] for mount in named if _is_named(mount)]
    return Stack(
        name=name,
        services=tuple(services),
        internal=(_BACKEND,) if config.database is not None else (),
        volumes=tuple(dict.fromkeys(volumes)),
        secrets=secrets,
        foreign=config.services,
        files=files,
    )


def _is_named(mount: str) -> bool:
    """Whether a mount's source is a named volume, not a folder of the host."""
    source, colon, _ = mount.partition(":")
    return bool(colon) and not source.startswith((".", "/", "~", "$"))


def _web(config: StackConfig, app: App) -> Service:
    environment = dict(config.env)
    secrets = list(config.secrets)
    waits_for: dict[str, bool] = {}
    if config.database is not None:
        environment |= {
            "DB_HOST": "db",
            "DB_PORT": "5432",
            "DB_NAME": _DATABASE,
            "DB_USER": _DATABASE,
            "DB_PASSWORD_FILE": f"/run/secrets/{PASSWORD}",
        }
        secrets.append(PASSWORD)
        waits_for["db"] = True
    mounts = list(config.volumes)
    taken = {mount.split(":")[1] for mount in mounts}
    # A volume made from the image's own folder belongs to the image's user, as that folder does.
    for folder in app.writable:
        if not any(folder == path or folder.startswith(f"{path}/") for path in taken):
            mounts.append(f"{_volume_name(folder, app)}:{folder}")
            taken.add(folder)
    about = "The app; `dockyard up` builds its image"
    about += ", which has its own health check." if app.has_check else "."
    return Service(
        name="web",
        about=about,
        image=app.image,
        build=".",
        environment=environment,
        secrets=tuple(secrets),
        published=_published(config, app),
        mounts=tuple(mounts),
        networks=("default", _BACKEND) if config.database is not None else ("default",),
        waits_for=waits_for,
        replicas=config.replicas,
        gpus=config.gpus,
        cpus=config.cpus,
        memory=config.memory,
        pids=1024,
        shm_size=config.shm_size,
        read_only=config.read_only,
        drop_capabilities=True,
        # As long as requests in flight may take; the server ends sooner when there are none.
        grace="30s",
        restart=config.restart,
    )


def _volume_name(folder: str, app: App) -> str:
    if folder == app.log_dir:
        return "logs"
    return re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")


def _published(config: StackConfig, app: App) -> tuple[tuple[str, int, int], ...]:
    if config.publish is None or app.port is None:
        return ()
    address, _, port = (config.publish or f"127.0.0.1:{app.port}").rpartition(":")
    return ((address, int(port), app.port),)


def _database(image: str, restart: str) -> Service:
    return Service(
        name="db",
        about="The database. Only the app can reach it: its network has no way out.",
        image=image,
        environment={
            "POSTGRES_DB": _DATABASE,
            "POSTGRES_USER": _DATABASE,
            "POSTGRES_PASSWORD_FILE": f"/run/secrets/{PASSWORD}",
        },
        secrets=(PASSWORD,),
        mounts=(f"db-data:{data_folder(image)}",),
        networks=(_BACKEND,),
        # By TCP: the server that initialises the data listens on a socket only.
        check=Check(
            command=(
                *("pg_isready", "--quiet", "--host=127.0.0.1"),
                *(f"--username={_DATABASE}", f"--dbname={_DATABASE}"),
            ),
            interval="3s",
        ),
        memory="1g",
        # Parallel queries share memory in /dev/shm.
        shm_size="256m",
        grace="1m",
        restart=restart,  # type: ignore[arg-type]
    )


def data_folder(image: str) -> str:
    """Where the volume of a postgres image belongs: 18 moved it, to make upgrades easier."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    major = re.match(r"[0-9]+", tag)
    folder = "/var/lib/postgresql"
    return folder if int(major[0] if major else POSTGRES) >= 18 else f"{folder}/data"


def _prometheus(config: StackConfig, files_at: str) -> Service:
    return Service(
        name="prometheus",
        about="Collects the app's metrics and watches the alert rules.",
        image=config.images.get("prometheus", PROMETHEUS),
        command=(
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
        ),
        published=(("127.0.0.1", 9090, 9090),),
        mounts=(
            f"{files_at}/{_MONITORING}/prometheus:/etc/prometheus:ro",
            "prometheus-data:/prometheus",
        ),
        waits_for={"web": False},
        check=Check(
            command=("promtool", "check", "ready", "--url=http://127.0.0.1:9090"), interval="5s"
        ),
        memory="512m",
        restart=config.restart,
    )


def _grafana(config: StackConfig, files_at: str) -> Service:
    return Service(
        name="grafana",
        about=f"Draws them; the user is admin, the password in {SECRETS}/{_GRAFANA_PASSWORD}.",
        image=config.images.get("grafana", GRAFANA),
        environment={
            "GF_SECURITY_ADMIN_PASSWORD__FILE": f"/run/secrets/{_GRAFANA_PASSWORD}",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
        },
        secrets=(_GRAFANA_PASSWORD,),
        published=(("127.0.0.1", 3000, 3000),),
        mounts=(
            f"{files_at}/{_MONITORING}/grafana/provisioning:/etc/grafana/provisioning:ro",
            f"{files_at}/{_MONITORING}/grafana/dashboards:/var/lib/grafana/dashboards:ro",
            "grafana-data:/var/lib/grafana",
        ),
        waits_for={"prometheus": True},
        check=Check(command=("wget", "-q", "--spider", "http://127.0.0.1:3000/api/health")),
        memory="512m",
        restart=config.restart,
    )

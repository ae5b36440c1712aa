"""The commands that start, show and change the bundle, and control who may call it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from deploy.operate.access import secret_files
from deploy.operate.command_line import command, count, on_cluster, say
from deploy.operate.errors import Refused
from deploy.operate.stack import settings

if TYPE_CHECKING:
    import docker

    from deploy.operate.access.certificates import Certificate
    from deploy.operate.access.keys import Key
    from deploy.operate.access.store import Store

_SOON = timedelta(days=30)  # until a certificate expires
_DEVICES = {"cpu": "CPU", "gpu": "GPU", "cdi": "GPU, through CDI"}
_MOST_DAYS = 3650  # lifetime of a key
# When a changed Secret takes effect. Notifying the pods needs the right to change pods.
_ON_CLUSTER = "within seconds, two minutes at most"
NOTHING_RUNS = 3  # exit status of `status`


def add_to(commands: Any) -> None:
    """Add the commands of this room to those of the command line."""
    up = command(commands, "up", _up, "start everything, and return when all of it is healthy")
    up.add_argument(
        "--scale",
        type=count,
        metavar="N",
        help="number of server replicas (default: as last time, or 1)",
    )
    up.add_argument(
        "--monitoring",
        action=argparse.BooleanOptionalAction,
        help="with or without Prometheus and Grafana (default: as last time)",
    )
    device = up.add_mutually_exclusive_group()
    device.add_argument(
        "--gpu", action="store_true", default=None, help="use a GPU; fail if there is none"
    )
    device.add_argument(
        "--cpu", action="store_false", dest="gpu", help="use the CPU, even if there is a GPU"
    )
    timeout: Any = {"type": count, "default": 180, "metavar": "S"}
    timeout["help"] = "seconds in which it has to be healthy (180)"
    up.add_argument("--timeout", **timeout)
    command(commands, "down", _down, "stop and remove all containers; the monitoring data stays")
    command(
        commands, "check", _check, "find mistakes in the files of server, gateway and Prometheus"
    )
    status = command(commands, "status", _status, "show what runs, and whether it is healthy")
    status.add_argument("--json", action="store_true", help="print JSON, for programs")
    models = command(commands, "models", _list_models, "list the models that are served or on disk")
    models.add_argument("--json", action="store_true", help="print JSON, for programs")
    of_models = models.add_subparsers(metavar="COMMAND")
    for name, summary in (
        ("add", "serve one more model; returns when it answers"),
        ("remove", "stop serving a model; its versions stay on disk"),
    ):
        sub = command(of_models, name, _change_models, summary)
        sub.set_defaults(adds=name == "add")
        sub.add_argument("name", metavar="NAME", help="the model, by the name that callers use")
        sub.add_argument("--timeout", **timeout)
    of_models.choices["add"].add_argument(
        "--path", help="the folder of its versions (default: NAME in the models folder)"
    )
    keys = command(commands, "keys", None, "manage the API keys of the gateway").add_subparsers(
        required=True, metavar="COMMAND"
    )
    for name, run, summary in (
        ("create", _create_key, "create a key and print it"),
        (
            "rotate",
            _rotate_key,
            "create a new key and print it; the old one still works for some days",
        ),
        ("revoke", _revoke_key, "revoke all keys of a name"),
        ("list", _list_keys, "list the keys, by their last characters"),
    ):
        sub = command(keys, name, run, summary)
        on_cluster(sub)
        if name != "list":
            sub.add_argument(
                "name", metavar="NAME", help="the owner; logs and metrics show this name"
            )
        if name in ("create", "rotate"):
            default = "as the old key" if name == "rotate" else "no end"
            sub.add_argument(
                "--days", type=_days, metavar="N", help=f"days until it expires ({default})"
            )
        if name == "rotate":
            sub.add_argument(
                "--overlap",
                type=_days,
                metavar="N",
                help="days that the old key still works (7)",
            )
    made = command(
        commands, "certificates", _certificates, "create or renew the gateway's certificate"
    )
    made.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or address that clients use, beside localhost (as in the last certificate)",
    )
    made.add_argument(
        "--days", type=count, metavar="N", help="days until it expires, at most 825 (365)"
    )
    made.add_argument(
        "--force",
        action="store_true",
        help="replace existing files, with a new certificate authority too",
    )
    on_cluster(made)


def _days(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= _MOST_DAYS):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a whole number of days from 1 to {_MOST_DAYS:,}"
        )
    return int(text)


def _up(options: argparse.Namespace) -> int:
    from deploy.operate.access import certificates
    from deploy.operate.checks import programs
    from deploy.operate.stack import engine, images, served, status
    from deploy.operate.stack import lifecycle as stack

    with engine.connect() as client, served.changing():
        decided = _decided(client, options)
        device = _DEVICES.get(decided["SERVING_DEVICE"], decided["SERVING_DEVICE"])
        say(f"engine  Docker {client.version()['Version']}, serving on the {device}")
        if (certificate := certificates.read()) is None:
            _say_certificate(certificates.make(), secret_files.Folder())
        elif certificate.expires < datetime.now(UTC) + _SOON:
            say(f"  !!    the certificate expires {certificate.expires:%Y-%m-%d %H:%M} UTC;")
            say("        `python -m deploy certificates` renews it")
        files = served.source()
        _refuse(_in_files(files, _running(client)))
        compose = engine.Compose({**os.environ, **decided})
        images.fetch(client, compose, stack.needed(compose))
        with contextlib.suppress(programs.Unchecked):  # its start will show it
            _refuse(programs.gateway(client, compose.config["services"]["gateway"]))
        before = stack.as_it_runs(client, compose)
        earlier = served.read(served.COPY)
        if "models.config" in served.hand_over(files) and earlier:
            say("config  running servers read the new models.config within 2 s")
        try:
            stack.up(client, compose, before, timeout=options.timeout)
            status.settle(client, compose.config["name"], timeout=options.timeout)
        except BaseException:
            served.hand_over(earlier or files)
            raise
        settings.write(decided)
        try:
            if stack.monitoring(compose):
                with contextlib.suppress(programs.Unchecked):
                    _refuse(programs.prometheus(client, compose.config["services"]["prometheus"]))
            stack.watch(client, compose, before, timeout=options.timeout)
        except Refused as error:
            raise Refused(
                f"server and gateway are healthy, the monitoring is not: {error}"
            ) from error
        print("\n".join(status.lines(status.gather(client, compose.config["name"]))))
    return 0


def _decided(client: docker.DockerClient, options: argparse.Namespace) -> dict[str, str]:
    """The settings of this machine: as given now, else as last time, else as detected."""
    from deploy.operate.stack import containers, engine, served

    found = engine.gpu(client)
    if options.gpu and not found:
        raise Refused(
            "--gpu: the engine has no NVIDIA runtime and no NVIDIA GPU through CDI; install the "
            "NVIDIA Container Toolkit and run `sudo nvidia-ctk runtime configure`, or omit --gpu"
        )
    decided = {name: os.environ[name] for name in settings.names() if os.environ.get(name)}
    if options.gpu is not None or "SERVING_DEVICE" not in decided:
        decided["SERVING_DEVICE"] = (found if options.gpu is not False else None) or "cpu"
    project = engine.Compose().config["name"]
    there = Counter(one.service for one in containers.of_project(client, project))
    if options.scale or "SERVING_REPLICAS" not in decided:
        decided["SERVING_REPLICAS"] = str(options.scale or there["serving"] or 1)
    profiles = set(filter(None, decided.get("COMPOSE_PROFILES", "").split(",")))
    if options.monitoring or (options.monitoring is None and there["prometheus"]):
        profiles.add("monitoring")
    elif options.monitoring is False:
        profiles.discard("monitoring")
    # The GPU exporter needs NVIDIA's runtime.
    watched = decided["SERVING_DEVICE"] == "gpu" and "monitoring" in profiles
    (profiles.add if watched else profiles.discard)("gpu-monitoring")
    (profiles.add if (served.OWN / served.CANARY).exists() else profiles.discard)("canary")
    decided["COMPOSE_PROFILES"] = ",".join(sorted(profiles))
    return {**decided, **served.AS_SETTING}


def _in_files(files: Mapping[str, bytes], running: bytes = b"") -> Iterator[str]:
    """What is wrong with the server's files and the secrets."""
    from deploy.operate.checks import secrets, server
    from deploy.operate.stack import served

    yield from server.problems(files, served.models_folder(), running)
    yield from secrets.problems()


def _running(client: docker.DockerClient) -> bytes:
    """The `models.config` that healthy servers read; b"" if there are none."""
    from deploy.operate.stack import containers, engine, served

    there = containers.of_project(client, engine.Compose().config["name"])
    if any(one.service == "serving" and one.healthy for one in there):
        return served.read(served.COPY).get(served.MODELS, b"")
    return b""


def _refuse(problems: Iterable[str]) -> None:
    """Raise Refused with the last one, if there are any."""
    if found := [*problems]:
        for problem in found[:-1]:
            say(f"check   {problem}")
        raise Refused(found[-1])


def _check(_: argparse.Namespace) -> int:
    from deploy.operate.checks import programs
    from deploy.operate.stack import engine, served

    files = served.source()
    found: list[str] = []
    try:
        with engine.connect() as client:
            found += _in_files(files, _running(client))
            services = engine.Compose(profiles=["*"]).config["services"]
            for check in (programs.gateway, programs.prometheus):
                try:
                    found += check(client, services[check.__name__])
                except programs.Unchecked as error:
                    say(f"not checked with {check.__name__}: {error}")
    except Refused as error:
        if not found:
            found += _in_files(files)
        say(f"nginx.conf and Prometheus' rules are not checked: {error}")
    print(
        "\n".join(found) or "no mistakes found: server, gateway and Prometheus can read their files"
    )
    return 1 if found else 0


def _down(_: argparse.Namespace) -> int:
    from deploy.operate.stack import engine
    from deploy.operate.stack import lifecycle as stack

    with engine.connect() as client:
        removed = stack.down(client, engine.Compose(profiles=["*"]))
    print("\n".join(f"removed {name}" for name in removed) or "nothing runs")
    return 0


def _status(options: argparse.Namespace) -> int:
    from deploy.operate.stack import engine, status

    with engine.connect() as client:
        found = status.gather(client, engine.Compose().config["name"])
    if options.json:
        print(status.as_json(found))
    elif found.rows:
        print("\n".join(status.lines(found)))
    else:
        print("nothing runs; `python -m deploy up` starts it")
    return NOTHING_RUNS if not found.rows else 0 if found.healthy else 1


def _list_models(options: argparse.Namespace) -> int:
    from deploy.operate.models import configured
    from deploy.operate.stack import engine, status

    with engine.connect_if_any(say) as client:
        known = status.gather(client, engine.Compose().config["name"]) if client else None
        found = configured.listing(known)
    print(configured.as_json(found) if options.json else "\n".join(configured.lines(found)))
    return 0


def _change_models(options: argparse.Namespace) -> int:
    """`models add` and `models remove`."""
    from deploy.operate.models import configured
    from deploy.operate.stack import engine, served

    with engine.connect_if_any(say) as client, served.changing():
        if served.CANARY in served.source():
            raise Refused("a canary is under way: `promote` its version or `rollback` first")
        running = _running(client) if client else b""
        if options.adds:
            text, left_out = configured.with_one_more(options.name, options.path)
            for name in left_out:
                say(f"models  {name} is left out: it has no version on this machine")
        else:
            text = configured.without(options.name)
        files = {**served.source(), served.MODELS: text.encode()}
        found = [*_in_files(files, running)]
        if options.adds:
            _refuse(found)
        if not found:
            _take_up(files, client if running else None, options.timeout)
        served.write_models(text)
    _refuse(found)  # removed all the same: the mistake may be in another model
    return 0


def _take_up(
    files: Mapping[str, bytes], client: docker.DockerClient | None, timeout: float
) -> None:
    """Give the configuration to the servers, wait until they use it; restore it if they fail.

    Args:
        files: the configuration.
        client: the engine, if servers run.
        timeout: in seconds.
    """
    from deploy.operate.stack import engine, served, status

    before = served.read(served.COPY)
    served.hand_over(files)
    known = settings.read()
    if client and served.AS_SETTING.items() <= known.items():
        say("config  running servers read the new models.config within 2 s")
        try:
            status.settle(client, engine.Compose().config["name"], timeout=timeout)
        except BaseException:
            served.hand_over(before)
            raise
        say("config  every replica has a version of every model AVAILABLE")
    else:
        say("config  not served yet; `python -m deploy up` serves it")
    settings.write({**known, **served.AS_SETTING})


def _store(options: argparse.Namespace) -> Store:
    """The store of keys and certificates: this machine or a cluster."""
    from deploy.operate import cluster

    if kubectl := cluster.chosen(options):
        from deploy.operate.cluster.secrets import Secrets

        return Secrets(kubectl)
    return secret_files.Folder()


def _create_key(options: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    _say_key(keys.create(options.name, options.days, store=_store(options)), options.kubernetes)
    return 0


def _rotate_key(options: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    overlap = options.overlap or keys.OVERLAP
    made = keys.rotate(options.name, options.days, overlap, store=_store(options))
    _say_key(made, options.kubernetes)
    say(f"the old key still works for {overlap} days at most; `keys list` shows until when")
    return 0


def _say_key(made: Key, on_cluster: bool) -> None:
    from deploy.operate.access import waiting

    print(made.key, flush=True)
    until = f" until {made.ends:%Y-%m-%d %H:%M} UTC" if made.ends else ""
    if on_cluster:
        say(f"{made.name} can call {_ON_CLUSTER}{until}: send the key as header x-api-key, or set")
        say("DIGITS_API_KEY")
        return
    # Only a terminal shows it twice: elsewhere standard error may go to a log.
    shown = made.key if sys.stderr.isatty() else "KEY"
    port = int(os.environ.get("GATEWAY_PORT") or 8443)
    waiting.wait_until_known(made.key, port)
    say(f"{made.name} can call now{until}: send the key as header x-api-key, set DIGITS_API_KEY,")
    say(f"or open https://localhost:{port}/#key={shown}")


def _revoke_key(options: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    keys.revoke(options.name, store=_store(options))
    say(
        f"the keys of {options.name} are refused "
        f"{_ON_CLUSTER if options.kubernetes else 'within two seconds'}"
    )
    return 0


def _list_keys(options: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    found = keys.read(_store(options))
    width = max((len(key.name) for key in found), default=0)
    for key in found:
        ends = (
            f"  {'expired' if key.ended else 'until'} {key.ends:%Y-%m-%d %H:%M} UTC"
            if key.ends
            else ""
        )
        print(f"{key.name:<{width}}  {key.created}  …{key.key[-4:]}{ends}")
    return 0


def _certificates(options: argparse.Namespace) -> int:
    from deploy.operate.access import certificates

    days, store = options.days or certificates.DAYS, _store(options)
    made = certificates.make(options.host, days=days, force=options.force, store=store)
    _say_certificate(made, store)
    return 0


def _say_certificate(made: Certificate, store: Store) -> None:
    say(f"certificate for {', '.join(made.hosts)} until {made.expires:%Y-%m-%d}; to trust it:")
    for line in store.how_to_trust():
        say(f"  {line}")

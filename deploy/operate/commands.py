"""The commands that start the bundle, look at it, change it, and say who may call it."""

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

_SOON = timedelta(days=30)  # to a certificate's end
_DEVICES = {"cpu": "CPU", "gpu": "GPU", "cdi": "GPU, by CDI"}
_MOST_DAYS = 3650  # of a key
# When a changed Secret is in force: its pods are told, which takes the right to change pods.
_ON_CLUSTER = "within seconds, two minutes at most"
NOTHING_RUNS = 3  # exit status of `status`


def add_to(commands: Any) -> None:
    """Add the commands of this room to those of the command line."""
    up = command(commands, "up", _up, "start everything, and return when all of it is well")
    up.add_argument(
        "--scale",
        type=count,
        metavar="N",
        help="replicas of the server (as last time, or 1)",
    )
    up.add_argument(
        "--monitoring",
        action=argparse.BooleanOptionalAction,
        help="with Prometheus and Grafana, or without (as last time)",
    )
    device = up.add_mutually_exclusive_group()
    device.add_argument("--gpu", action="store_true", default=None, help="or fail without one")
    device.add_argument("--cpu", action="store_false", dest="gpu", help="even where there is a GPU")
    timeout: Any = {"type": count, "default": 180, "metavar": "S"}
    timeout["help"] = "seconds to become well (180)"
    up.add_argument("--timeout", **timeout)
    command(commands, "down", _down, "stop and remove everything that runs")
    command(commands, "check", _check, "what server, gateway and Prometheus would not take")
    status = command(commands, "status", _status, "what runs where, and whether it is well")
    status.add_argument("--json", action="store_true", help="for programs")
    models = command(commands, "models", _list_models, "the models: served, and on disk")
    models.add_argument("--json", action="store_true", help="for programs")
    of_models = models.add_subparsers(metavar="COMMAND")
    for name, summary in (
        ("add", "serve one more; returns when it answers"),
        ("remove", "serve one less; its versions stay on disk"),
    ):
        sub = command(of_models, name, _change_models, summary)
        sub.set_defaults(adds=name == "add")
        sub.add_argument("name", metavar="NAME", help="as callers ask for it")
        sub.add_argument("--timeout", **timeout)
    of_models.choices["add"].add_argument(
        "--path", help="the folder of its versions (NAME among the models)"
    )
    keys = command(commands, "keys", None, "the API keys that open the gateway").add_subparsers(
        required=True, metavar="COMMAND"
    )
    for name, run, summary in (
        ("create", _create_key, "make a key and print it"),
        ("rotate", _rotate_key, "make the next key and print it; the old one goes on for a while"),
        ("revoke", _revoke_key, "end a key"),
        ("list", _list_keys, "whose keys there are"),
    ):
        sub = command(keys, name, run, summary)
        on_cluster(sub)
        if name != "list":
            sub.add_argument("name", metavar="NAME", help="who holds it, as logs and metrics say")
        if name in ("create", "rotate"):
            unless = "as long as the last one was" if name == "rotate" else "until it is revoked"
            sub.add_argument("--days", type=_days, metavar="N", help=f"good for ({unless})")
        if name == "rotate":
            sub.add_argument(
                "--overlap",
                type=_days,
                metavar="N",
                help="days that the old one goes on (7)",
            )
    made = command(
        commands, "certificates", _certificates, "make or renew the gateway's certificate"
    )
    made.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or address that clients use, beside localhost (those of the last certificate)",
    )
    made.add_argument("--days", type=count, metavar="N", help="valid for, at most 825 (365)")
    made.add_argument(
        "--force", action="store_true", help="a new authority, too, whatever files are there"
    )
    on_cluster(made)


def _days(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= _MOST_DAYS):
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole days, 1 to {_MOST_DAYS:,}")
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
            say(f"  !!    the certificate ends {certificate.expires:%Y-%m-%d %H:%M} UTC;")
            say("        `python -m deploy certificates` renews it")
        files = served.source()
        _refuse(_in_files(files, _running(client)))
        compose = engine.Compose({**os.environ, **decided})
        images.fetch(client, compose, stack.needed(compose))
        with contextlib.suppress(programs.Unchecked):  # its start will tell
            _refuse(programs.gateway(client, compose.config["services"]["gateway"]))
        before = stack.as_it_runs(client, compose)
        earlier = served.read(served.COPY)
        if "models.config" in served.hand_over(files) and earlier:
            say("config  running servers read models.config again within 2 s")
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
            raise Refused(f"server and gateway are well, the monitoring is not: {error}") from error
        print("\n".join(status.lines(status.gather(client, compose.config["name"]))))
    return 0


def _decided(client: docker.DockerClient, options: argparse.Namespace) -> dict[str, str]:
    """The settings of this machine: as it is told now, else as last time, else as it looks."""
    from deploy.operate.stack import containers, engine, served

    found = engine.gpu(client)
    if options.gpu and not found:
        raise Refused(
            "the engine has no NVIDIA runtime, and no NVIDIA GPU by CDI; install the NVIDIA "
            "Container Toolkit and run `sudo nvidia-ctk runtime configure`, or leave --gpu out"
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
    # What watches GPUs asks for them as NVIDIA's runtime gives them.
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
    """The `models.config` of servers that run well; b"" if none does."""
    from deploy.operate.stack import containers, engine, served

    there = containers.of_project(client, engine.Compose().config["name"])
    if any(one.service == "serving" and one.well for one in there):
        return served.read(served.COPY).get(served.MODELS, b"")
    return b""


def _refuse(problems: Iterable[str]) -> None:
    """Go no further if there are any."""
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
    print("\n".join(found) or "server, gateway and Prometheus can read what is checked")
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
    return NOTHING_RUNS if not found.rows else 0 if found.well else 1


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
                say(f"models  {name} is left out: it has no version here")
        else:
            text = configured.without(options.name)
        files = {**served.source(), served.MODELS: text.encode()}
        found = [*_in_files(files, running)]
        if options.adds:
            _refuse(found)
        if not found:
            _take_up(files, client if running else None, options.timeout)
        served.write_models(text)
    _refuse(found)  # one is removed all the same: what is wrong may be the next
    return 0


def _take_up(
    files: Mapping[str, bytes], client: docker.DockerClient | None, timeout: float
) -> None:
    """Hand the configuration over, until servers answer by it; take it back if they do not.

    Args:
        files: the configuration.
        client: the engine, if servers run on it.
        timeout: in seconds.
    """
    from deploy.operate.stack import engine, served, status

    before = served.read(served.COPY)
    served.hand_over(files)
    known = settings.read()
    if client and served.AS_SETTING.items() <= known.items():
        say("config  running servers read models.config again within 2 s")
        try:
            status.settle(client, engine.Compose().config["name"], timeout=timeout)
        except BaseException:
            served.hand_over(before)
            raise
        say("config  every replica has a version of every model AVAILABLE")
    else:
        say("config  `python -m deploy up` serves it")
    settings.write({**known, **served.AS_SETTING})


def _store(options: argparse.Namespace) -> Store:
    """Where the keys and certificates lie that are meant."""
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
    say(f"the old key goes on for {overlap} days at most; `keys list` says until when")
    return 0


def _say_key(made: Key, on_cluster: bool) -> None:
    from deploy.operate.access import waiting

    print(made.key, flush=True)
    until = f" until {made.ends:%Y-%m-%d %H:%M} UTC" if made.ends else ""
    if on_cluster:
        say(f"{made.name} can call {_ON_CLUSTER}{until}, as the header x-api-key or")
        say("DIGITS_API_KEY says")
        return
    # Only a person at a terminal is shown it twice: elsewhere standard error becomes a log.
    shown = made.key if sys.stderr.isatty() else "KEY"
    port = int(os.environ.get("GATEWAY_PORT") or 8443)
    waiting.wait_until_known(made.key, port)
    say(f"{made.name} can call now{until}, as the header x-api-key or DIGITS_API_KEY says, or draw")
    say(f"on https://localhost:{port}/#key={shown}")


def _revoke_key(options: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    keys.revoke(options.name, store=_store(options))
    say(f"{options.name}'s key ends {_ON_CLUSTER if options.kubernetes else 'within two seconds'}")
    return 0


def _list_keys(options: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    found = keys.read(_store(options))
    width = max((len(key.name) for key in found), default=0)
    for key in found:
        ends = (
            f"  {'ended' if key.ended else 'until'} {key.ends:%Y-%m-%d %H:%M} UTC"
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

"""Run the bundle: start it, look at it, stop it, and hand out what opens its door.

Exit status: 0 done (`status`: all is well), 1 refused or failed (`status`: something is not well),
2 bad usage or input, 3 nothing runs (`status` only), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from deploy import environment
from deploy.operate.access import secret_files
from deploy.operate.errors import InputError, Refused

if TYPE_CHECKING:
    from deploy.operate.access.certificates import Certificate

_EXAMPLES = """examples:
  python -m deploy up --scale 3 --monitoring
  KEY=$(python -m deploy keys create alice)
  python -m deploy certificates --host digits.example.org --host 10.0.0.7
  python -m deploy status && python -m deploy down"""
_SOON = timedelta(days=30)  # to a certificate's end
NOTHING_RUNS = 3  # exit status of `status`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        options = _parser().parse_args(arguments)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except InputError as error:
        return _fail(error, 2)
    except Refused as error:
        return _fail(error, 1)
    except ModuleNotFoundError as error:
        return _fail(environment.told(error, "make setup-operate"), 2)
    except BrokenPipeError:
        # `| head` has seen enough; the interpreter's own flush would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename or 'the answer'}: {error.strerror or error}", 1)
    return status


def _say(line: object) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(error: object, status: int) -> int:
    _say(f"python -m deploy: {' '.join(str(error).split())}")
    return status


def _parser() -> argparse.ArgumentParser:
    looks: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EXAMPLES}
    parser = argparse.ArgumentParser(
        prog="python -m deploy", description="Run the digit model behind its gateway.", **looks
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        within: Any, name: str, run: Callable[[argparse.Namespace], int] | None, summary: str
    ) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = within.add_parser(
            name, help=summary, description=summary, **looks
        )
        sub.set_defaults(run=run)
        return sub

    up = command(commands, "up", _up, "start everything, and return when all of it is well")
    up.add_argument(
        "--scale",
        type=_count,
        metavar="N",
        help="replicas of the server (as many as there are, or 1)",
    )
    up.add_argument(
        "--monitoring", action="store_true", help="with Prometheus and Grafana, until `down`"
    )
    device = up.add_mutually_exclusive_group()
    device.add_argument("--gpu", action="store_true", default=None, help="or fail without one")
    device.add_argument("--cpu", action="store_false", dest="gpu", help="even where there is a GPU")
    up.add_argument(
        "--timeout", type=_count, default=180, metavar="S", help="seconds to become well (180)"
    )
    command(commands, "down", _down, "stop and remove everything that runs")
    status = command(commands, "status", _status, "what runs where, and whether it is well")
    status.add_argument("--json", action="store_true", help="for programs")
    keys = command(commands, "keys", None, "the API keys that open the gateway").add_subparsers(
        required=True, metavar="COMMAND"
    )
    for name, run, summary in (
        ("create", _create_key, "make a key and print it"),
        ("revoke", _revoke_key, "end a key"),
    ):
        sub = command(keys, name, run, summary)
        sub.add_argument("name", metavar="NAME", help="who holds it, as logs and metrics say")
    command(keys, "list", _list_keys, "whose keys there are")
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
    made.add_argument("--days", type=_count, metavar="N", help="valid for, at most 825 (365)")
    made.add_argument(
        "--force", action="store_true", help="a new authority, too, whatever files are there"
    )
    return parser


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 10**6):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)


def _up(options: argparse.Namespace) -> int:
    from deploy.operate.access import certificates
    from deploy.operate.stack import containers, engine, status
    from deploy.operate.stack import lifecycle as stack

    with engine.connect() as client:
        has_gpu = engine.has_gpu(client)
        if options.gpu and not has_gpu:
            raise Refused(
                "the engine has no NVIDIA runtime; install the NVIDIA Container Toolkit and run "
                "`sudo nvidia-ctk runtime configure`, or leave --gpu out"
            )
        gpu = has_gpu if options.gpu is None else options.gpu
        _say(
            f"engine  Docker {client.version()['Version']}, serving on the {'G' if gpu else 'C'}PU"
        )
        if (certificate := certificates.read()) is None:
            _say_certificate(certificates.make())
        elif certificate.expires < datetime.now(UTC) + _SOON:
            _say(f"  !!    the certificate ends {certificate.expires:%Y-%m-%d %H:%M} UTC;")
            _say("        `python -m deploy certificates` renews it")
        # What is there stays as it is, unless told otherwise: this is also how one upgrades.
        compose = engine.Compose(gpu=gpu)
        project = compose.config["name"]
        there = Counter(one.service for one in containers.of_project(client, project))
        if options.monitoring or "prometheus" in there:
            compose = engine.Compose(gpu=gpu, profiles=["monitoring"])
        replicas = options.scale or there["serving"] or 1
        stack.up(client, compose, replicas=replicas, timeout=options.timeout)
        print("\n".join(status.lines(status.gather(client, project))))
    return 0


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


def _create_key(options: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    made = keys.create(options.name)
    print(made.key, flush=True)
    # Only a person at a terminal is shown it twice: elsewhere standard error becomes a log.
    shown = made.key if sys.stderr.isatty() else "KEY"
    port = os.environ.get("GATEWAY_PORT") or 8443
    _say(f"{made.name} can call now, as the header x-api-key or DIGITS_API_KEY says, or draw on")
    _say(f"https://localhost:{port}/#key={shown}")
    return 0


def _revoke_key(options: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    keys.revoke(options.name)
    _say(f"{options.name}'s key ends within two seconds")
    return 0


def _list_keys(_: argparse.Namespace) -> int:
    from deploy.operate.access import keys

    found = keys.read()
    width = max((len(key.name) for key in found), default=0)
    for key in found:
        print(f"{key.name:<{width}}  {key.created}  …{key.key[-4:]}")
    return 0


def _certificates(options: argparse.Namespace) -> int:
    from deploy.operate.access import certificates

    days = options.days or certificates.DAYS
    _say_certificate(certificates.make(options.host, days=days, force=options.force))
    return 0


def _say_certificate(made: Certificate) -> None:
    _say(f"certificate for {', '.join(made.hosts)} until {made.expires:%Y-%m-%d}; to trust it:")
    ca = secret_files.gateway() / "ca.pem"
    port = os.environ.get("GATEWAY_PORT") or 8443
    _say(f"  curl --cacert {ca} https://localhost:{port}/healthz")
    _say(f'  DigitClient("grpcs://localhost:{port}", api_key=…, tls=Tls(ca="{ca}"))')

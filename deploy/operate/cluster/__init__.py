"""The bundle on a Kubernetes cluster, through the operator's own `kubectl`."""

from __future__ import annotations

import argparse

from deploy.operate.cluster.kubectl import Kubectl
from deploy.operate.errors import InputError


def chosen(options: argparse.Namespace) -> Kubectl | None:
    """The cluster of a command line (`command_line.on_cluster`); None: this machine.

    Raises:
        InputError: an option of a cluster without --kubernetes.
    """
    if options.kubernetes:
        return Kubectl(options.namespace, options.context)
    if options.namespace or options.context:
        raise InputError("--namespace and --context need --kubernetes")
    return None

"""The stages in their order: data, train, sign, check, publish."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from export import interruption
from export.digits.checks import gate, golden
from export.digits.checks import pictures as picture_checks
from export.digits.checks.evaluation import Evaluation, evaluate
from export.digits.data import sources as data
from export.digits.graph import signatures
from export.digits.report import card, pictures
from export.digits.training import devices, network
from export.digits.training import recipes as training
from export.errors import InputError, Refused
from export.progress import say
from export.publication import server_config, warmup
from export.publication.repository import Repository
from export.publication.serving_path import ServedModel

_EPOCH_LINES = 20  # of progress at most, however many epochs


@dataclass(frozen=True, slots=True)
class Options:
    """What `python -m export` was asked for; the flags' help says what each means."""

    name: str
    version: int | None
    recipe: str
    epochs: int | None
    batch_size: int | None
    seed: int | None
    min_accuracy: float
    max_regression: float
    keep: int | None


@dataclass(frozen=True, slots=True)
class Published:
    """The new version, and its model card."""

    path: Path
    version: int
    card: dict[str, Any]
    removed: list[int]


def run(options: Options, repository: Repository, dataset: data.Dataset) -> Published:
    """Train a network and publish it.

    Raises:
        InputError: the network is not one that can be published.
        Refused: the candidate failed a check.
        OSError: the repository cannot be written.
    """
    with repository.staging() as folder:
        with devices.strategy().scope():
            trained = _train(dataset, options)
        goldens = _sign(trained.network, dataset, folder, options.name)
        findings = _check(folder, goldens, dataset.test, repository)
        gate.check(findings, options.min_accuracy, options.max_regression)
        model_card = card.describe(options.name, dataset, trained, findings)
        card.write(folder, model_card)
        pictures.draw(folder, trained.epochs, findings.evaluation, dataset.test)
        interruption.last_chance()  # the rest is done in a blink and not taken back
        version = repository.publish(folder, options.version)
    removed = _remove_old(repository, options.keep, version)
    return Published(repository.folder / str(version), version, model_card, removed)


def _train(dataset: data.Dataset, options: Options) -> training.Trained:
    recipe = training.recipe(
        options.recipe,
        len(dataset.train),
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    keras.utils.set_random_seed(recipe.seed)
    model = network.build()
    network.check(model)
    epochs: list[training.EpochReport] = []

    started = time.perf_counter()

    def on_epoch(report: training.EpochReport) -> None:
        epochs.append(report)
        if report.epoch % -(-report.epochs // _EPOCH_LINES) == 0 or report.epoch == 1:
            left = (time.perf_counter() - started) * (report.epochs / report.epoch - 1)
            say(f"train   {report}" + (f", {left:.0f} s left" if left > 1 else ""))

    training.train(model, dataset, recipe, on_epoch)
    seconds = time.perf_counter() - started
    return training.Trained(model, recipe, epochs, devices.described(), seconds)


def _sign(model: keras.Model, dataset: data.Dataset, folder: Path, name: str) -> golden.Golden:
    say("sign    five signatures, golden digits, warm-up requests")
    goldens = golden.choose(model, dataset.test)
    try:
        signatures.save(model, folder)
        goldens.write(folder)
        warmup.write(folder, golden.requests(goldens, name))
    except tf.errors.OpError as error:  # TensorFlow's way to say that the disk is full
        raise InputError(f"the candidate cannot be written: {error.message}") from error
    return goldens


def _check(
    folder: Path, goldens: golden.Golden, test: data.Split, repository: Repository
) -> gate.Findings:
    try:
        with ServedModel(folder) as served:
            parity = golden.parity(goldens, served)
            evaluation = _evaluate(served, test)
            pictures_read = picture_checks.measure(served, test)
            newest = _newest(repository, test)
            findings = gate.Findings(served.signatures, parity, evaluation, newest, pictures_read)
    except (tf.errors.OpError, RuntimeError) as error:
        raise Refused(f"the candidate does not answer as the server loads it: {error}") from error
    say(f"check   {findings}")
    return findings


def _remove_old(repository: Repository, keep: int | None, published: int) -> list[int]:
    if keep is None:
        return []
    root, name = repository.folder.parent, repository.folder.name
    try:
        named = server_config.named_versions(root, name)
        return repository.keep_newest(keep, {published} | named)
    except (InputError, OSError) as error:  # the version is published all the same
        say(f"keep    old versions are not removed: {error}")
        return []


def _evaluate(served: ServedModel, test: data.Split) -> Evaluation:
    return evaluate(served.run("serving_default", test.images)["probabilities"], test.labels)


def _newest(repository: Repository, test: data.Split) -> gate.Comparison | None:
    """The newest version on the same images; None where there is none that answers."""
    versions = repository.versions()
    if not versions:
        return None
    newest = max(versions)
    try:
        with ServedModel(versions[newest]) as served:
            return gate.Comparison(newest, _evaluate(served, test).accuracy)
    except (tf.errors.OpError, RuntimeError, OSError, KeyError, ValueError) as error:
        say(f"check   version {newest} cannot be compared with: {type(error).__name__}")
        return None

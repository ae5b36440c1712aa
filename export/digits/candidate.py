"""The digits as a candidate for publication: trained here, and held to what digits must reach."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

import keras

from export.digits.checks import gate, golden
from export.digits.checks import pictures as picture_checks
from export.digits.checks.evaluation import Evaluation, evaluate
from export.digits.data import sources as data
from export.digits.graph import signatures
from export.digits.report import card, pictures
from export.digits.training import devices, network
from export.digits.training import recipes as training
from export.progress import say
from export.publication.golden import Golden
from export.publication.pipeline import Evidence, of_newest
from export.publication.repository import Repository
from export.publication.serving_path import ServedModel

_EPOCH_LINES = 20  # of progress at most, however many epochs


class Digits:
    """A network that is trained when it is saved; `options` are the command line's."""

    def __init__(self, dataset: data.Dataset, options: Namespace) -> None:
        self._dataset, self._options = dataset, options

    def save(self, folder: Path) -> None:
        """Train a network, and write it with its signatures."""
        with devices.strategy().scope():
            self._trained = self._train()
        say("sign    five signatures, golden digits, warm-up requests")
        signatures.save(self._trained.network, folder)

    def golden(self, _served: ServedModel, /) -> Golden:
        """Some test images of each class."""
        return golden.choose(self._trained.network, self._dataset.test)

    def examine(self, served: ServedModel, repository: Repository) -> Evidence:
        """Measure it on the test images."""
        evaluation, test = self._evaluate(served), self._dataset.test
        pictures_read = picture_checks.measure(served, test)
        newest = of_newest(repository, lambda before: self._evaluate(before).accuracy)
        findings = gate.Findings(evaluation, newest, pictures_read)
        say(f"check   {findings}")
        least = self._options.min_accuracy
        if least is None:
            least = gate.floor(len(self._dataset.train))
        gate.check(findings, least, self._options.max_regression)
        return Evidence(
            card.describe(self._dataset, self._trained, findings),
            pictures.draw(self._trained.epochs, evaluation, test),
        )

    def _evaluate(self, served: ServedModel) -> Evaluation:
        test = self._dataset.test
        answers = served.run("serving_default", test.images)["probabilities"]
        return evaluate(answers, test.labels)

    def _train(self) -> training.Trained:
        recipe = training.recipe(
            self._options.recipe,
            len(self._dataset.train),
            epochs=self._options.epochs,
            batch_size=self._options.batch_size,
            seed=self._options.seed,
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

        training.train(model, self._dataset, recipe, on_epoch)
        seconds = time.perf_counter() - started
        return training.Trained(model, recipe, epochs, devices.described(), seconds)

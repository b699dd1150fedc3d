"""The worker's operations on one node: its model, its data, its journal.

Each operation reads what the step before left on disk, so a worker can be killed between any two; what is
kept in memory only saves time.
"""

from __future__ import annotations

import hashlib
import os
import threading
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
import torch

from qkt_node.home import Home
from qkt_node.worker.first_model import first_model, require_fit
from qkt_node.worker.local_data import LocalData, load_local_data
from qkt_node.worker.measuring import compared_accuracies, measured_accuracies
from qkt_node.worker.operations import ModelDifference
from qkt_node.worker.own_models import OwnModels, over_data
from qkt_node.worker.reporting import steps_of, within
from qkt_node.worker.responses import OpenLesson, offered_medium
from qkt_p2p.distillation import LearningSettings
from qkt_p2p.lesson import Lesson, preferred_media
from qkt_p2p.limits import SYNTHESIS_SECONDS
from qkt_p2p.models import choose_device
from qkt_p2p.own_samples import Asker
from qkt_p2p.privacy.ledger import Privacy
from qkt_p2p.store.journal import Journal
from qkt_p2p.synthesis import medium_of
from qkt_p2p.synthesis.own_stem import own_stem
from qkt_p2p.teacher import Teacher, TeacherSettings
from qkt_p2p.types import Progress, StudentModel, Validation

if TYPE_CHECKING:
    from pathlib import Path

    from qkt_node.settings import NodeConfig
    from qkt_node.worker.operations import ModelPair, ResponseCheck, TeachOrder
    from qkt_p2p.seams import ReportProgress
    from qkt_p2p.store.statistics import KeptStatistics
    from qkt_p2p.types import LearningTask, ProbeReport, ProbeRequest, Query, TeachRequest

log = structlog.get_logger(__name__)

MAX_BANK_BYTES = 512 * 1024 * 1024
"""Banks kept on disk for askers that come back, and in any case the one used last; others are made anew."""

MAX_STATISTICS_BYTES = 512 * 1024 * 1024
"""Statistics and stems kept on disk, of all classes behind all stems; those of earlier models go first."""


class Workbench:
    """One node's learning; every public method is an operation of the worker.

    Its `report` argument tells progress, and raises CancelledError where the operation was given up.
    """

    def __init__(self, home: Home, config: NodeConfig) -> None:
        self._home = home
        self._config = config
        self._journal = Journal(home.database)
        self._models = OwnModels(home, config, journal=self._journal)
        self._local: LocalData | None = None
        self._loading = threading.Lock()
        self._open_lesson: tuple[tuple[Query, str, str], OpenLesson] | None = None
        self._settings = LearningSettings(
            samples_per_class=config.learning.samples_per_class,
            most_own_loss=config.learning.max_local_drop,
        )
        budget = config.privacy.budget()
        self._privacy = Privacy(budget, self._journal) if budget else None

    @classmethod
    def open(cls, root: Path, config: NodeConfig) -> Workbench:
        """Open the home at `root` and set up torch for it."""
        torch.set_num_threads(config.node.threads or len(os.sched_getaffinity(0)))
        # On CUDA, pooling to a size has no deterministic gradient.
        torch.use_deterministic_algorithms(choose_device(config.node.device).type == "cpu")
        return cls(Home(root), config)

    def prepare(self, argument: None, report: ReportProgress) -> StudentModel:
        """Return the current model's description; train and save a first model where there is none.

        Its own classes are those of the data as they are now. Raises ConfigError where the data cannot be
        read, or are no data for the model.
        """
        del argument
        data = self._data().train
        described = self._models.described()
        if described is None:
            model = first_model(self._config, data, steps_of("train", report))
            return self._models.save_version(model, data=data)
        return over_data(described, data)

    def probe(self, request: ProbeRequest, report: ReportProgress) -> ProbeReport:
        """Show what the model knows, on the asker's seed."""
        return self._teacher().probe(request, steps_of("probe", report))

    def synthesize(self, order: TeachOrder, report: ReportProgress) -> str:
        """Put the response to a request into the journal, unless it is there; return its key.

        Raises what `Teacher.teach` raises, and PeerRefusedError after SYNTHESIS_SECONDS.
        """
        request = order.whole
        key = self._bank_key(request)
        if self._journal.load_bank(key) is None:
            steps = within(SYNTHESIS_SECONDS, steps_of("synthesize", report))
            offer, chunks = self._teacher(self._privacy).teach(request, steps)
            report(Progress("synthesize", 1, 1, "made"))
            self._journal.save_bank(key, offer, chunks)
            self._journal.evict_banks(MAX_BANK_BYTES)
        return key

    def preferred_media(self, argument: None, report: ReportProgress) -> tuple[str, ...]:
        """Return the media in the order in which this node learns best from them."""
        del argument, report
        return preferred_media(self._asker(b""), self._settings)

    def stem(self, medium: str, report: ReportProgress) -> str:
        """Return the model's stem as a graph, base64; empty where the medium needs none.

        Raises ConfigError where no teacher would take it.
        """
        found = medium_of(medium)
        if found is None or not found.of_features:
            return ""
        report(Progress("probe", 0, 0, "exporting the stem"))
        return b64encode(self._stem()).decode()

    def check_response(self, check: ResponseCheck, report: ReportProgress) -> None:
        """Decode what a teacher sent of some classes; raises ProtocolError where it is not usable."""
        opened = self._lesson_of(check.query, offered_medium(self._journal, check.query, check.source))
        opened.check(check.source, check.classes, steps_of("check", report))

    def phase1(self, task: LearningTask, report: ReportProgress) -> None:
        """Distil the teachers' responses into the grown student, and keep the candidate."""
        opened = self._lesson_of(task.query, task.medium)
        steps = steps_of("phase1", report)
        student = opened.lesson.phase1(opened.responses(task.evidence, steps), steps)
        self._models.save_candidate(task.query.query_id, "phase1", student)

    def phase2(self, task: LearningTask, report: ReportProgress) -> None:
        """Refine the candidate's head on what all teachers sent."""
        opened, query_id = self._lesson_of(task.query, task.medium), task.query.query_id
        steps = steps_of("phase2", report)
        responses = opened.responses(task.evidence, steps)
        candidate = self._models.candidate(query_id, "phase1")
        student = opened.lesson.phase2(candidate, responses, steps)
        self._models.save_candidate(query_id, "phase2", student)

    def validate(self, task: LearningTask, report: ReportProgress) -> Validation:
        """Let the gate judge the candidate on data that nothing was trained on."""
        report(Progress("validate", 0, 1, "measuring"))
        opened, asked = self._lesson_of(task.query, task.medium), task.query.classes
        candidate = self._models.candidate(task.query.query_id, "phase2")
        verdict = opened.lesson.validate(candidate, opened.responses(task.evidence))
        accuracy = measured_accuracies(
            self._models.current(),
            candidate,
            verdict=verdict,
            evaluation=self._data().evaluation,
            asked=asked,
        )
        return Validation(verdict.accepted, verdict.reason, accuracy)

    def adopt(self, task: LearningTask, report: ReportProgress) -> StudentModel:
        """Make the candidate the node's model, in one step and once only; return what it is, as `prepare`."""
        self._open_lesson = None
        self._models.adopt(task.query.query_id, data=self._data().train)
        return self.prepare(None, report)

    def roll_back(self, version: int, report: ReportProgress) -> StudentModel:
        """Make an earlier version the node's model again; return what it is, as `prepare`.

        Raises what `OwnModels.version` raises, and ConfigError where it is no model for the node's data now.
        """
        self._open_lesson = None
        require_fit(self._models.version(version), self._data().train)
        self._models.roll_back(version)
        return self.prepare(None, report)

    def compare(self, pair: ModelPair, report: ReportProgress) -> ModelDifference:
        """Measure two versions on data that none was trained on; raises what `OwnModels.version` raises."""
        report(Progress("compare", 0, 1, "measuring"))
        before, after = (self._models.version(number) for number in (pair.before, pair.after))
        accuracy = compared_accuracies(before, after, self._data())
        return ModelDifference(before.trained, after.trained, accuracy)

    def report(self, data: dict[str, Any], report: ReportProgress) -> str:
        """Write the report of an ended query; return the path of its HTML file."""
        del report
        self._open_lesson = None
        from qkt_node.report import write_report  # noqa: PLC0415 - matplotlib, only needed here

        return str(write_report(self._home.reports, data))

    def _data(self) -> LocalData:
        # Once for all lanes: the data may be what takes most of the memory.
        with self._loading:
            if self._local is None:
                found = load_local_data(self._config, self._home.root)
                if self._models.current_name():
                    require_fit(self._models.current(), found.train)
                if found.repeated:
                    log.warning("evaluation_repeats_own_data", left_out=found.repeated)
                self._local = found
            return self._local

    def _teacher(self, privacy: Privacy | None = None) -> Teacher:
        """Return this node as a teacher: of itself, or of others with the `privacy` that its owner wants."""
        described, classifier = self._models.in_use()
        return Teacher(
            classifier,
            self._data().train,
            model_version=described.version,
            settings=TeacherSettings(),
            cache=self._statistics(described.version),
            privacy=privacy,
        )

    def _lesson_of(self, query: Query, medium: str) -> OpenLesson:
        """Return the lesson of the query in hand; that of another query, or before another model, is closed.

        What it keeps is made anew where the worker was started in between.
        """
        about = (query, medium, self._models.current_name())
        if self._open_lesson is None or self._open_lesson[0] != about:
            self._open_lesson = None
            self._open_lesson = (about, OpenLesson(self._journal, query, self._lesson(query, medium)))
        return self._open_lesson[1]

    def _lesson(self, query: Query, medium: str) -> Lesson:
        found = medium_of(medium)
        stem = self._stem() if found is not None and found.of_features else b""
        return Lesson(self._asker(stem), query, medium, self._settings)

    def _asker(self, stem: bytes) -> Asker:
        data = self._data()
        return Asker(self._models.current(), data.train, data.holdout, self._teacher(), stem)

    def _stem(self) -> bytes:
        """Return the stem of the current model; exporting takes seconds, so it is kept.

        Raises ConfigError where no teacher would take it.
        """
        described, model = self._models.in_use()
        kept, key = self._statistics(described.version), f"own-stem-{described.version}-{model.cut}"
        stem = kept.get(key)
        if stem is None:
            stem = kept[key] = own_stem(model)
        return stem

    def _statistics(self, version: int) -> KeptStatistics:
        """Return what is kept of statistics and stems: each version makes new ones, and each asker's stem."""
        return self._journal.statistics(max_bytes=MAX_STATISTICS_BYTES, model_version=version)

    def _bank_key(self, request: TeachRequest) -> str:
        """Name everything that a response depends on: the request, without who asks, the model, the data.

        Recipes do not depend on the seed, so a bank of them serves one query after another.
        """
        medium = medium_of(request.medium)
        seed = 0 if medium is not None and not medium.seeded else request.seed
        text = f"{replace(request, seed=seed)!r}\n{self._models.current_name()}\n{self._data().fingerprint}"
        if self._privacy is not None:
            # Never what was made without noise, before the owner asked for it.
            text += f"\n{self._privacy.budget!r}"
        return hashlib.sha256(text.encode()).hexdigest()

"""The worker's operations on one node: its model, its data, its journal.

Each operation reads what the step before left on disk, so a worker can be killed between any two.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from qkt_node.config import load_config
from qkt_node.home import Home
from qkt_node.model_files import candidate_file, node_metadata, stored_model, version_file
from qkt_node.worker.local_data import LocalData, load_local_data
from qkt_node.worker.operations import AdoptedModel
from qkt_node.worker.responses import load_responses
from qkt_p2p.distillation import LearningSettings, distill, refine, split_responses, validate
from qkt_p2p.errors import ConfigError
from qkt_p2p.masking.evidence import class_evidence
from qkt_p2p.masking.masks import mask_of
from qkt_p2p.masking.probes import make_probes
from qkt_p2p.models import (
    TrainingSettings,
    build_classifier,
    class_accuracies,
    classifier_from_arrays,
    classifier_to_arrays,
    train_classifier,
)
from qkt_p2p.seeds import derived_seed
from qkt_p2p.store.checkpoints import current_file, load_checkpoint, save_checkpoint, set_current
from qkt_p2p.store.journal import Journal
from qkt_p2p.store.records import ModelRecord
from qkt_p2p.teacher import Teacher, TeacherSettings, own_responses
from qkt_p2p.types import MEDIA, ClassAccuracy, Progress, StudentModel, Validation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from qkt_node.settings import NodeConfig
    from qkt_node.worker.operations import ResponseCheck
    from qkt_p2p.distillation import Response, Verdict
    from qkt_p2p.models import Classifier
    from qkt_p2p.types import ClassName, LearningTask, PeerId, ProbeReport, ProbeRequest, TeachRequest

    Report = Callable[[Progress], None]

MAX_BANK_BYTES = 512 * 1024 * 1024
"""Banks kept on disk for askers that come back; the least used are made anew."""

SELF_PROBES = 1024


class Workbench:
    """One node's learning; every public method is an operation of the worker."""

    def __init__(self, home: Home, config: NodeConfig) -> None:
        self._home = home
        self._config = config
        self._journal = Journal(home.database)
        self._loaded: tuple[Path, Classifier] | None = None
        self._local: LocalData | None = None
        self._settings = LearningSettings(
            samples_per_class=config.learning.samples_per_class,
            most_own_loss=config.learning.max_local_drop,
        )

    @classmethod
    def open(cls, root: Path) -> Workbench:
        """Open the home at `root` and set up torch for it."""
        home = Home(root)
        config = load_config(home.config_file)
        torch.set_num_threads(config.node.threads or len(os.sched_getaffinity(0)))
        torch.use_deterministic_algorithms(True)
        return cls(home, config)

    def prepare(self, argument: None, report: Report) -> StudentModel:
        """Return the current model's description; train and save a first model where there is none."""
        del argument
        stored = stored_model(self._home, self._config)
        if stored is not None:
            return stored
        data, seed = self._data().train, self._config.node.seed
        classifier = build_classifier(
            self._config.model.architecture,
            input_shape=data.input_shape,
            classes=self._label_space(data.present),
            trained=data.present,
            seed=derived_seed(seed, "build"),
        )
        train_classifier(
            classifier,
            data,
            TrainingSettings(),
            seed=derived_seed(seed, "train"),
            progress=_steps("train", report),
        )
        return self._save_version(classifier, query_id="", parent=0)

    def probe(self, request: ProbeRequest, report: Report) -> ProbeReport:
        """Show what the model knows, on the asker's seed."""
        del report
        return self._teacher().probe(request)

    def synthesize(self, request: TeachRequest, report: Report) -> str:
        """Put the response to a request into the journal, unless it is there; return its key."""
        key = self._bank_key(request)
        if self._journal.load_bank(key) is None:
            offer, chunks = self._teacher().teach(request)
            report(Progress("synthesize", 1, 1, "made"))
            self._journal.save_bank(key, offer, chunks)
            self._journal.evict_banks(MAX_BANK_BYTES)
        return key

    def check_response(self, check: ResponseCheck, report: Report) -> None:
        """Decode everything that a teacher sent; raises ProtocolError where it is not usable."""
        del report
        load_responses(self._journal, check.query, {check.source: {}}, self._model().input_shape)

    def phase1(self, task: LearningTask, report: Report) -> None:
        """Distil the relevant teachers' responses into the grown student, and keep the candidate."""
        query = task.query
        before = self._model()
        relevant = {peer: task.evidence[peer] for peer in task.relevant}
        responses, _ = self._responses(task, relevant)
        student = before.grown(query.classes, seed=derived_seed(query.seed, "grow"))
        student = distill(
            student,
            self._data().train,
            responses,
            self._settings,
            seed=derived_seed(query.seed, "phase1"),
            progress=_steps("phase1", report),
        )
        self._save_candidate(task, student)

    def phase2(self, task: LearningTask, report: Report) -> None:
        """Refine the candidate's head on what all teachers sent."""
        responses, _ = self._responses(task, task.evidence)
        student = refine(
            self._candidate(task),
            self._model(),
            self._data().train,
            responses,
            self._settings,
            seed=derived_seed(task.query.seed, "phase2"),
            progress=_steps("phase2", report),
        )
        self._save_candidate(task, student)

    def validate(self, task: LearningTask, report: Report) -> Validation:
        """Let the gate judge the candidate on data that nothing was trained on."""
        report(Progress("validate", 0, 1, "measuring"))
        before, after = self._model(), self._candidate(task)
        _, held_out = self._responses(task, task.evidence)
        verdict = validate(
            before,
            after,
            own_holdout=self._data().holdout,
            responses_holdout=held_out,
            query=task.query.classes,
            settings=self._settings,
        )
        return Validation(verdict.accepted, verdict.reason, self._accuracies(task, verdict, before, after))

    def adopt(self, task: LearningTask, report: Report) -> AdoptedModel:
        """Make the candidate the node's model, in one step."""
        del report
        parent = stored_model(self._home, self._config)
        model = self._save_version(
            self._candidate(task), query_id=task.query.query_id, parent=parent.version if parent else 0
        )
        return AdoptedModel(model.version, model.known)

    def report(self, data: dict[str, Any], report: Report) -> str:
        """Write the report of an ended query; return the path of its HTML file."""
        del report
        from qkt_node.report import write_report  # noqa: PLC0415 - matplotlib, only needed here

        return str(write_report(self._home.reports, data))

    def _data(self) -> LocalData:
        if self._local is None:
            self._local = load_local_data(self._config, self._home.root)
        return self._local

    def _label_space(self, present: tuple[ClassName, ...]) -> tuple[ClassName, ...]:
        return tuple(dict.fromkeys((*self._config.model.label_space, *present)))  # type: ignore[arg-type]

    def _model(self) -> Classifier:
        """Return the current model; raises ConfigError where it does not fit the data any more."""
        path = current_file(self._home.models)
        if path is None:
            raise ConfigError("the home holds no model", fix=f"qkt-node start --home {self._home.root}")
        if self._loaded is None or self._loaded[0] != path:
            self._loaded = (path, classifier_from_arrays(*load_checkpoint(path)))
        return self._loaded[1]

    def _teacher(self) -> Teacher:
        stored = stored_model(self._home, self._config)
        version = stored.version if stored else 0
        return Teacher(
            self._model(),
            self._data().train,
            model_version=version,
            settings=TeacherSettings(),
            cache=self._journal.statistics(version),
        )

    def _responses(
        self, task: LearningTask, evidence: Mapping[PeerId, Mapping[ClassName, float]]
    ) -> tuple[list[Response], list[Response]]:
        """Return what `evidence` teachers and this node itself made: (for training, held out)."""
        query = task.query
        taught = load_responses(self._journal, query, evidence, self._model().input_shape)
        own = own_responses(
            self._teacher(),
            self._data().train.present,
            medium=MEDIA[0] if query.medium == "auto" else query.medium,
            samples_per_class=self._settings.samples_per_class,
            seed=derived_seed(query.seed, "own"),
        )
        return split_responses(
            [*taught, *own], self._settings.holdout_fraction, seed=derived_seed(query.seed, "holdout")
        )

    def _accuracies(
        self, task: LearningTask, verdict: Verdict, before: Classifier, after: Classifier
    ) -> tuple[ClassAccuracy, ...]:
        """Return accuracies on the evaluation data where it is configured, else the gate's own."""
        evaluation = self._data().evaluation
        asked = task.query.classes
        found = {
            name: ClassAccuracy(name, change.before, change.after, change.measured_on, name in asked)
            for name, change in verdict.changes.items()
        }
        if evaluation is not None:
            was, now = (class_accuracies(model, evaluation, among=after.trained) for model in (before, after))
            for name in now:
                found[name] = ClassAccuracy(name, was[name], now[name], "evaluation", name in asked)
        return tuple(found[name] for name in after.trained if name in found)

    def _candidate(self, task: LearningTask) -> Classifier:
        path = self._home.models / candidate_file(task.query.query_id)
        return classifier_from_arrays(*load_checkpoint(path))

    def _save_candidate(self, task: LearningTask, student: Classifier) -> None:
        save_checkpoint(
            self._home.models / candidate_file(task.query.query_id), *classifier_to_arrays(student)
        )

    def _save_version(self, classifier: Classifier, *, query_id: str, parent: int) -> StudentModel:
        """Save a model as the next version, record it, and only then make it current."""
        version = self._journal.next_model_version()
        seed = derived_seed(self._config.node.seed, "self probe")
        probes = make_probes(classifier.input_shape, SELF_PROBES, seed=seed)
        model = StudentModel(
            version=version,
            input_shape=classifier.input_shape,
            local=self._data().train.present,
            known=mask_of(class_evidence(classifier, probes)),
        )
        arrays, metadata = classifier_to_arrays(classifier)
        metadata |= node_metadata(model)
        file = version_file(version)
        digest = save_checkpoint(self._home.models / file, arrays, metadata)
        self._journal.add_model(
            ModelRecord(
                version=version,
                parent=parent,
                created_at=time.time(),
                known_classes=model.known,
                query_id=query_id,
                file=file,
                sha256=digest,
                metadata_json=json.dumps(metadata),
            )
        )
        set_current(self._home.models, file)
        return model

    def _bank_key(self, request: TeachRequest) -> str:
        """Name everything that a response depends on: the request but for who asks, the model, the data."""
        path = current_file(self._home.models)
        plain = replace(request, query_id="", held=())  # type: ignore[arg-type]
        text = f"{plain!r}\n{path.name if path else ''}\n{self._data().fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()


def _steps(step: str, report: Report) -> Callable[[float, float, str], None]:
    """Return the callback of a training loop that reports as `step`."""
    return lambda done, total, message: report(Progress(step, done, total, message))

"""This node's models on disk: the current version, the next one, and the candidate of a query."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from qkt_node.model_files import (
    candidate_file,
    data_metadata,
    described_model,
    node_metadata,
    require_recorded,
    stored_model,
    version_file,
)
from qkt_p2p.commands import command
from qkt_p2p.distillation import ENOUGH_SAMPLES
from qkt_p2p.errors import ConfigError, UpdateRefusedError, UsageError
from qkt_p2p.masking.evidence import class_evidence
from qkt_p2p.masking.masks import mask_of, probes_for
from qkt_p2p.masking.probes import Probes
from qkt_p2p.models import (
    choose_device,
    classifier_from_arrays,
    classifier_to_arrays,
    unusable_numbers,
)
from qkt_p2p.seeds import derived_seed
from qkt_p2p.store.checkpoints import current_file, load_checkpoint, save_checkpoint, set_current
from qkt_p2p.store.records import ModelRecord, RollbackRecord
from qkt_p2p.types import StudentModel

if TYPE_CHECKING:
    from pathlib import Path

    from qkt_node.home import Home
    from qkt_node.model_files import Phase
    from qkt_node.settings import NodeConfig
    from qkt_p2p.datasets import LabelledData
    from qkt_p2p.models import Classifier
    from qkt_p2p.store.journal import Journal
    from qkt_p2p.types import ClassName, QueryId


def over_data(model: StudentModel, data: LabelledData) -> StudentModel:
    """Return a model's description where `data` are the node's own, for training: these may have changed."""
    local = tuple(name for name in data.present if name in model.trained)
    scarce = tuple(name for name in local if data.counts[name] < ENOUGH_SAMPLES)
    return replace(model, local=local, scarce=scarce)


class OwnModels:
    """The files under models/ and their records; the worker's only writer of both."""

    def __init__(self, home: Home, config: NodeConfig, *, journal: Journal) -> None:
        self._home = home
        self._config = config
        self._device = choose_device(config.node.device)
        self._journal = journal
        self._loaded: tuple[Path, Classifier] | None = None

    def described(self) -> StudentModel | None:
        """Return what the current version is, or None where there is none yet."""
        return stored_model(self._home, self._config)

    def current(self) -> Classifier:
        """Return the current version; raises ConfigError where there is none or its file is damaged."""
        return self._loaded_from(self._current_file())

    def in_use(self) -> tuple[StudentModel, Classifier]:
        """Return what the current version is, and itself; raises ConfigError as `current` does.

        Both are of one version, also where another one is adopted meanwhile.
        """
        path = self._current_file()
        return described_model(path, self._home, self._config), self._loaded_from(path)

    def _current_file(self) -> Path:
        path = current_file(self._home.models)
        if path is None:
            raise ConfigError(
                f"the home {self._home.root} holds no model", fix=command("start", "--home", self._home.root)
            )
        return path

    def _loaded_from(self, path: Path) -> Classifier:
        """Return the version in a file; the one asked for last is kept in memory."""
        loaded = self._loaded
        if loaded is None or loaded[0] != path:
            loaded = self._loaded = (path, self._load(path))
        return loaded[1]

    def current_name(self) -> str:
        """Return the name of the current version's file, "" where there is none."""
        path = current_file(self._home.models)
        return "" if path is None else path.name

    def version(self, number: int) -> Classifier:
        """Return a version that was kept.

        Raises UsageError where there is none of that number, and ConfigError where its file is not what was
        saved, or of another architecture than node.toml asks for.
        """
        record = self._recorded(number)
        require_recorded(self._home, record)
        path = self._home.models / record.file
        described_model(path, self._home, self._config)
        return self._load(path)

    def roll_back(self, number: int) -> None:
        """Make an earlier version current again; what the next query learns is the next version, of this one.

        That it happens is recorded first: a process that dies leaves either version current.
        """
        record, described = self._recorded(number), self.described()
        replaced = described.version if described is not None else 0
        self._journal.add_rollback(RollbackRecord(time.time(), replaced, number))
        set_current(self._home.models, record.file)

    def candidate(self, query_id: QueryId, phase: Phase) -> Classifier:
        """Return the model that a phase of a query has made."""
        return self._load(self._home.models / candidate_file(query_id, phase))

    def save_candidate(self, query_id: QueryId, phase: Phase, classifier: Classifier) -> None:
        """Keep the model that a phase of a query has made; UpdateRefusedError where its numbers ran away."""
        if unusable := unusable_numbers(classifier):
            raise UpdateRefusedError(
                f"the model that {phase} made holds {unusable}",
                fix="ask again with another --seed",
            )
        file = candidate_file(query_id, phase)
        save_checkpoint(self._home.models / file, *classifier_to_arrays(classifier))

    def adopt(self, query_id: QueryId, *, data: LabelledData) -> ModelRecord:
        """Make a query's candidate the current version; once only, however often this is asked for.

        A process that dies leaves the old version current, or the new one: whichever, asking again ends
        with the new one. `data` are the node's own, for training.
        """
        record = self._journal.model_of_query(query_id)
        if record is None:
            candidate = self.candidate(query_id, "phase2")
            _, record = self._save(candidate, data=data, query_id=query_id)
        described = self.described()
        if described is None or described.version < record.version:
            set_current(self._home.models, record.file)
        return record

    def save_version(self, classifier: Classifier, *, data: LabelledData) -> StudentModel:
        """Make a model the next version, which no query brought; `data` are the node's own, for training.

        Raises ConfigError, and leaves all as it is, where the training that made it has run away.
        """
        if unusable := unusable_numbers(classifier):
            raise ConfigError(
                f"the model that the first training made holds {unusable}",
                fix="check how the module of [model] factory starts, and the numbers in [data] source",
            )
        model, record = self._save(classifier, data=data, query_id="")
        set_current(self._home.models, record.file)
        return model

    def _save(
        self, classifier: Classifier, *, data: LabelledData, query_id: str
    ) -> tuple[StudentModel, ModelRecord]:
        """Save a model as the next version and record it; only then may it become current."""
        described = self.described()
        parent = described.version if described is not None else 0
        model = StudentModel(
            # A journal that was lost counts from 1 again; no earlier file may be written over.
            version=max(self._journal.next_model_version(), parent + 1),
            input_shape=classifier.input_shape,
            local=(),
            known=self._known(classifier, data),
            trained=classifier.trained,
        )
        model = over_data(model, data)
        arrays, metadata = classifier_to_arrays(classifier)
        metadata |= node_metadata(model) | data_metadata(self._config.data)
        file = version_file(model.version)
        digest = save_checkpoint(self._home.models / file, arrays, metadata)
        record = ModelRecord(
            version=model.version,
            parent=parent,
            created_at=time.time(),
            known_classes=model.known,
            query_id=query_id,
            file=file,
            sha256=digest,
            metadata_json=json.dumps(metadata),
        )
        self._journal.add_model(record)
        return model, record

    def _recorded(self, number: int) -> ModelRecord:
        record = self._journal.model_record(number)
        if record is None:
            raise UsageError(f"this node has no model version {number}", fix="qkt-node models list")
        return record

    def _load(self, path: Path) -> Classifier:
        classifier = classifier_from_arrays(*load_checkpoint(path), own=self._config.model.own)
        return classifier.to(self._device)

    def _known(self, classifier: Classifier, data: LabelledData) -> tuple[ClassName, ...]:
        """Return the classes that a model knows: what it learned well from own data, and what probes find."""
        seed = derived_seed(self._config.node.seed, "self probe")
        probes = Probes(classifier.input_shape, probes_for(len(classifier.classes)), seed=seed)
        found = mask_of(class_evidence(classifier, probes))
        learned = {name for name in classifier.trained if data.counts.get(name, 0) >= ENOUGH_SAMPLES}
        return tuple(name for name in classifier.classes if name in learned or name in found)

"""What the page says: the data of a query in words and numbers for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_ROWS: Final = 40
"""Classes or peers in one plot or table; the JSON file holds all."""

MAX_COLUMNS: Final = 24
"""Classes in the evidence plot; more would be too small to read."""

ABSENT: Final = "\N{EN DASH}"
_MINUS: Final = "\N{MINUS SIGN}"

_STEPS: Final = {
    "discover": "Find peers",
    "probe": "Probe",
    "collect": "Collect",
    "phase1": "Distil (phase 1)",
    "phase2": "Refine head (phase 2)",
    "validate": "Validate",
}
_MEASURED_ON: Final = {
    "evaluation": "evaluation data",
    "holdout": "own held-out data",
    "estimate": "synthetic batches",
}
_OUTCOMES: Final = {"accepted": "Accepted", "refused": "Refused", "failed": "Failed"}


@dataclass(frozen=True, slots=True)
class ClassView:
    """One class: accuracies in [0, 1], and on what they were measured."""

    name: str
    asked: bool
    before: float
    after: float
    measured_on: str

    @property
    def change(self) -> float:
        """The gain, in [-1, 1]."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class TeacherView:
    """What one peer contributed; `share` is its weight over the largest, `reason` why it was left out.

    `way` says how its response came, where that was not at the first attempt.
    """

    name: str
    peer: str
    classes: str
    samples: str
    bytes: str
    weight: float
    share: float
    used: bool
    reason: str
    way: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceView:
    """How well each peer knows each class: `values[peer][class]` in [0, 1], None where not probed."""

    peers: tuple[str, ...]
    classes: tuple[str, ...]
    asked: frozenset[str]
    values: tuple[tuple[float | None, ...], ...]

    @property
    def summary(self) -> str:
        """The plot in words: what each peer clearly knows."""
        sentences = []
        for peer, row in zip(self.peers, self.values, strict=True):
            known = [name for name, value in zip(self.classes, row, strict=True) if (value or 0) >= 0.5]
            sentences.append(f"{peer} knows {', '.join(known) or 'none of these classes'}.")
        return " ".join(sentences)


@dataclass(frozen=True, slots=True)
class Fact:
    """One number that matters, with its name and a line about it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the page."""

    title: str
    outcome: str
    outcome_label: str
    headline: str
    detail: str
    gate: str
    query_id: str
    node_name: str
    facts: tuple[Fact, ...]
    classes: tuple[ClassView, ...]
    evidence: EvidenceView
    teachers: tuple[TeacherView, ...]
    steps: tuple[tuple[str, float], ...]
    details: tuple[Fact, ...]
    omitted: str


def view_of(data: Mapping[str, Any]) -> View:
    """Return the view of a query's data; what a failed query lacks is left out."""
    names: Mapping[str, str] = data.get("peer_names", {})
    classes = _classes(data)
    teachers = _teachers(data, names)
    node_name = data.get("node_name") or "This node"
    headline, detail = _verdict(data, node_name=node_name)
    return View(
        title=f"{join_names(data['classes'])} · {node_name}",
        outcome=data["outcome"],
        outcome_label=_OUTCOMES.get(data["outcome"], data["outcome"]) + (" (trial)" if _trial(data) else ""),
        headline=headline,
        detail=detail,
        gate=gate_reason(data),
        query_id=data["query_id"],
        node_name=node_name,
        facts=tuple(_facts(data)),
        classes=classes[:MAX_ROWS],
        evidence=_evidence(data, names),
        teachers=teachers[:MAX_ROWS],
        steps=tuple((label, data["seconds"].get(step, 0.0)) for step, label in _STEPS.items()),
        details=tuple(_details(data, names)),
        omitted=_omitted(classes, teachers),
    )


def gate_reason(data: Mapping[str, Any]) -> str:
    """Return what the validation gate said; empty for a failed query, whose reason is that it failed."""
    return "" if data["outcome"] == "failed" else str(data.get("reason") or "").rstrip(".")


def percent(share: float | None) -> str:
    """Return a share of [0, 1] as a percentage with at most one decimal."""
    if share is None:
        return ABSENT
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def points(change: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    text = f"{100 * change:+.1f}".removesuffix(".0").replace("-", _MINUS)
    return "±0" if text in {"+0", f"{_MINUS}0"} else text


def byte_size(count: int) -> str:
    """Return a number of bytes with a binary unit, three digits at most."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def duration(seconds: float) -> str:
    """Return a duration with the precision that its length deserves, a dash for none."""
    if seconds <= 0:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def measured_on(source: str) -> str:
    """Return for people on what an accuracy was measured."""
    return _MEASURED_ON.get(source, source)


def join_names(names: Sequence[str]) -> str:
    """Return names in quotes, joined as in a sentence."""
    quoted = [f"“{name}”" for name in names]
    if len(quoted) > 4:
        quoted = [*quoted[:3], f"{len(quoted) - 3} more"]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _verdict(data: Mapping[str, Any], *, node_name: str) -> tuple[str, str]:
    """Return the outcome in one sentence, and a second one with what else matters."""
    asked, own = data["mean_query_accuracy"], data["mean_local_accuracy"]
    reason = str(data.get("reason") or "no reason was recorded").rstrip(".")
    wanted = join_names(data["classes"])
    if data["outcome"] == "failed":
        return (
            f"{node_name} could not learn {wanted}: {reason}.",
            "The model is the one from before the query.",
        )
    if data["outcome"] == "refused":
        return (
            f"The update for {wanted} was refused: {reason}.",
            "The validation gate kept the model from before the query; what follows shows what the update"
            " would have done."
            if data["accuracy"]
            else "The model is the one from before the query.",
        )
    used = sum(teacher["used"] for teacher in data["teachers"])
    peers = "1 peer" if used == 1 else f"{used} peers"
    learned, went = ("would learn", "would go") if _trial(data) else ("learned", "went")
    headline = f"{node_name} {learned} {wanted} from {peers}"
    if asked["after"] is not None:
        headline += f": accuracy {went} from {percent(asked['before'])} to {percent(asked['after'])}"
    detail = ["This was a trial: the model is the one from before the query."] if _trial(data) else []
    if own["after"] is not None:
        detail.append(
            f"On the classes it knew before, accuracy {went} from {percent(own['before'])} to"
            f" {percent(own['after'])}. No peer\N{RIGHT SINGLE QUOTATION MARK}s data left its machine."
        )
    return f"{headline}.", " ".join(detail)


def _trial(data: Mapping[str, Any]) -> bool:
    """Tell whether the query only measured; results of earlier versions do not tell."""
    return bool(data.get("trial"))


def _facts(data: Mapping[str, Any]) -> Iterable[Fact]:
    for label, key in (("Asked classes", "mean_query_accuracy"), ("Own classes", "mean_local_accuracy")):
        before, after = data[key]["before"], data[key]["after"]
        if after is not None:
            note = f"from {percent(before)} ({points(after - before)} points)"
            yield Fact(label, percent(after), note)
    used = sum(teacher["used"] for teacher in data["teachers"])
    yield Fact("Teachers", str(used), _answered(data))
    # Reports of earlier versions do not tell.
    saved = data.get("bytes_saved", 0)
    compressed = f", {byte_size(saved)} saved by compression" if saved else ""
    yield Fact(
        "Received", byte_size(data["bytes_received"]), f"{byte_size(data['bytes_sent'])} sent{compressed}"
    )
    yield Fact("Time", duration(data["seconds"].get("total", 0.0)), "from question to verdict")


def _answered(data: Mapping[str, Any]) -> str:
    """Return how many peers answered the probe, and how many did not; an answer has evidence of something."""
    answered = sum(bool(data["masks"].get(teacher["peer"])) for teacher in data["teachers"])
    silent = len(data["teachers"]) - answered
    peers = "1 peer" if answered == 1 else f"{answered} peers"
    return f"of {peers} that answered" + (f", {silent} did not" if silent else "")


def _classes(data: Mapping[str, Any]) -> tuple[ClassView, ...]:
    """Return the classes with an accuracy, those asked for first."""
    found = [
        ClassView(name, item["asked"], item["before"], item["after"], item["measured_on"])
        for name, item in data["accuracy"].items()
    ]
    return tuple(sorted(found, key=lambda view: not view.asked))


def _teachers(data: Mapping[str, Any], names: Mapping[str, str]) -> tuple[TeacherView, ...]:
    """Return the peers, those that taught most first."""
    rows = sorted(data["teachers"], key=lambda row: (not row["used"], -row["weight"], row["peer"]))
    largest = max((row["weight"] for row in rows), default=0.0) or 1.0
    return tuple(
        TeacherView(
            name=_peer_name(row["peer"], names),
            peer=row["peer"],
            classes=", ".join(row["classes"]) or ABSENT,
            samples=f"{row['samples']:,}" if row["samples"] else ABSENT,
            bytes=byte_size(row["bytes"]) if row["bytes"] else ABSENT,
            weight=row["weight"],
            share=row["weight"] / largest,
            used=row["used"],
            reason=row["reason"],
            way=_way(row),
        )
        for row in rows
    )


def _way(row: Mapping[str, Any]) -> str:
    """Return how a response came: what did not, by whom replaced, in how many attempts, what was here."""
    parts = []
    if row["used"] and row.get("missing"):
        parts.append(f"{', '.join(row['missing'])} did not come")
    if row.get("withheld"):
        parts.append(f"its privacy budget of {', '.join(row['withheld'])} is spent")
    if row.get("stood_in"):
        parts.append("took over from a teacher that failed")
    if row.get("attempts", 0) > 1:
        parts.append(f"{row['attempts']} attempts")
    if row.get("held_chunks"):
        parts.append(f"{byte_size(row['held_bytes'])} held already and not sent again")
    return ", ".join(parts)


def _evidence(data: Mapping[str, Any], names: Mapping[str, str]) -> EvidenceView:
    """Return the evidence; classes asked for come first, then those that most peers know best."""
    masks: Mapping[str, Mapping[str, float]] = data["masks"]
    totals: dict[str, float] = dict.fromkeys(data["classes"], 0.0)
    for mask in masks.values():
        for name, value in mask.items():
            totals[name] = totals.get(name, 0.0) + value
    asked = frozenset(data["classes"])
    shown = sorted(totals, key=lambda name: (name not in asked, -totals[name], name))[:MAX_COLUMNS]
    others = [name for name in shown if name not in asked]
    columns = (*(name for name in data["classes"] if name in shown), *sorted(others))
    peers = sorted(masks, key=lambda peer: (_peer_name(peer, names), peer))[:MAX_ROWS]
    return EvidenceView(
        peers=tuple(_peer_name(peer, names) for peer in peers),
        classes=columns,
        asked=asked,
        values=tuple(tuple(masks[peer].get(name) for name in columns) for peer in peers),
    )


def _details(data: Mapping[str, Any], names: Mapping[str, str]) -> Iterable[Fact]:
    """Yield what is needed to repeat the query, and what it cost others."""
    yield Fact("Query", data["query_id"])
    if "seed" in data:
        yield Fact("Seed", str(data["seed"]))
    yield Fact("Method", {"qkt": "QKT", "light": "QKT Light"}.get(data["mode"], data["mode"]))
    yield Fact("Medium", data["medium"] or ABSENT)
    if "quorum" in data:
        yield Fact("Teachers that each class must have", str(data["quorum"]["asked"]))
    yield Fact("Model version", str(data["model_version"] or ABSENT))
    for peer, spent in data.get("epsilon_spent", {}).items():
        yield Fact(f"Privacy spent at {_peer_name(peer, names)}", f"ε {spent:.3g}")
    for name, version in data.get("versions", {}).items():
        yield Fact(name, str(version))


def _omitted(classes: Sequence[ClassView], teachers: Sequence[TeacherView]) -> str:
    """Return what the page leaves out for its length, or nothing."""
    parts = [
        f"{len(rows) - MAX_ROWS} more {name}"
        for rows, name in ((classes, "classes"), (teachers, "peers"))
        if len(rows) > MAX_ROWS
    ]
    return " and ".join(parts)


def _peer_name(peer: str, names: Mapping[str, str]) -> str:
    return names.get(peer) or peer[:8]

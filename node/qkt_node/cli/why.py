"""`why`: a query explained, from what its daemon remembers of it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.queries import query_data, query_of, result_of
from qkt_node.cli.query import accuracy_table, use_of
from qkt_node.cli.tables import Table
from qkt_node.cli.verbs import HomeOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qkt_p2p.pb import control_pb2 as pb


def why(
    output: Output,
    home: HomeOption,
    query_id: Annotated[str, typer.Argument(metavar="ID", help="Which query; `queries` lists them.")],
) -> Answer:
    """Explain a query: who was asked and why, what the gate decided, where time and bytes went."""
    found = query_of(home, query_id)
    result = result_of(found)
    told = explained(found, result)
    return Answer({**query_data(found), "explanation": told, **reasons(result)}, [*told, *_tables(result)])


def explained(query: "pb.QuerySummary", result: "Mapping[str, Any]") -> list[str]:
    """Return a query in a few sentences; `result` is empty while it runs."""
    if not result:
        step = f", in the step {query.step}" if query.step else ""
        return [f"The query for {', '.join(query.classes)} is {query.state}{step}: nothing is decided yet."]
    from qkt_node.report.view import view_of

    view = view_of(result)
    way = f"by {'QKT Light' if result['mode'] == 'light' else 'QKT'}"
    medium = f"in the medium {result['medium']}" if result["medium"] else "no medium was chosen"
    told = [f"{view.headline} {view.detail}".strip(), f"It was asked {way}, {medium}. {_asked(result)}"]
    return [*told, _gate(result), _cost(result)]


def reasons(result: "Mapping[str, Any]") -> dict[str, Any]:
    """Return the same for machines; nothing while the query runs."""
    if not result:
        return {}
    teachers = [
        {
            "peer": row["peer"],
            "name": row["name"],
            "evidence": {name: _evidence(result, row["peer"], name) for name in result["classes"]},
            "mask": list(_mask(result, row["peer"])),
            **{key: row[key] for key in ("classes", "used", "weight", "bytes")},
            "why": use_of(row),
        }
        for row in result["teachers"]
    ]
    kept = ("medium", "quorum", "bytes_sent", "bytes_received", "bytes_saved", "seconds")
    gate = ("outcome", "reason", "accuracy", "mean_query_accuracy", "mean_local_accuracy")
    return {
        "teachers": teachers,
        "gate": {key: result[key] for key in gate},
        **{key: result.get(key) for key in kept},
    }


def _asked(result: "Mapping[str, Any]") -> str:
    """Return how many of the live peers know what was asked for, and how many of them are used."""
    from qkt_p2p.masking.masks import MASK_THRESHOLD

    peers, asked = result["teachers"], set(result["classes"])
    if not peers:
        return "No live peer was there to ask."
    knowing = sum(bool(asked & set(_mask(result, row["peer"]))) for row in peers)
    used = sum(row["used"] for row in peers)
    quorum = result.get("quorum", {}).get("asked", 1)
    wanted = f"; each class had to have {quorum}" if quorum > 1 else ""
    return (
        f"Of {len(peers)} live peers {knowing} showed evidence of {MASK_THRESHOLD:g} or more of what "
        f"was asked for, and {used} {'is' if used == 1 else 'are'} used{wanted}."
    )


def _gate(result: "Mapping[str, Any]") -> str:
    """Return what the validation gate decided, by which numbers."""
    from qkt_node.report.view import gate_reason, points

    if not result["accuracy"]:
        return "The validation gate measured nothing: the query ended before it."
    numbers = [
        f"{what} changed by {points(mean['after'] - mean['before'])} points on average"
        for what, mean in (
            ("what was asked for", result["mean_query_accuracy"]),
            ("own classes", result["mean_local_accuracy"]),
        )
        if mean["after"] is not None
    ]
    said = gate_reason(result)
    opening = f"The validation gate said: {said}" if said else "The query failed after the validation gate"
    return f"{opening}; {', '.join(numbers)}."


def _cost(result: "Mapping[str, Any]") -> str:
    """Return where time and bytes went."""
    from qkt_node.report.view import byte_size, duration

    steps = {step: seconds for step, seconds in result["seconds"].items() if step != "total"}
    longest = max(steps, key=steps.__getitem__)
    told = f"It took {duration(sum(steps.values()))}, most of it in {longest} ({duration(steps[longest])})"
    if not steps[longest]:
        told = "It ended at once"
    received = f"{byte_size(result['bytes_received'])} came and {byte_size(result['bytes_sent'])} went"
    largest = max(result["teachers"], key=lambda row: row["bytes"], default=None)
    most = (
        f", most from {largest['name']} ({byte_size(largest['bytes'])})"
        if largest and largest["bytes"]
        else ""
    )
    return f"{told}; {received}{most}."


def _tables(result: "Mapping[str, Any]") -> Iterator[Table]:
    if not result:
        return
    from qkt_node.report.view import byte_size

    if result["accuracy"]:
        yield accuracy_table(result)
    if result["teachers"]:
        rows = [
            [
                row["name"],
                row["peer"][:8],
                ", ".join(f"{name}: {_shown(result, row['peer'], name)}" for name in result["classes"]),
                ", ".join(_mask(result, row["peer"])) or "-",
                byte_size(row["bytes"]),
                f"{row['weight']:.2f}" if row["used"] else "-",
                use_of(row),
            ]
            for row in result["teachers"]
        ]
        columns = ["teacher", "id", "evidence", "mask", "bytes", "weight", "why"]
        yield Table(columns, rows, "Teachers", spare=("weight", "bytes", "id"))
    seconds = [[step, f"{taken:.2f}"] for step, taken in result["seconds"].items()]
    yield Table(["step", "seconds"], seconds, "Time")


def _mask(result: "Mapping[str, Any]", peer: str) -> tuple[str, ...]:
    """Return the classes that a peer counts as knowing, by its evidence."""
    from qkt_p2p.masking.masks import mask_of

    return mask_of(result["masks"].get(peer, {}))


def _evidence(result: "Mapping[str, Any]", peer: str, name: str) -> float | None:
    value: float | None = result["masks"].get(peer, {}).get(name)
    return value


def _shown(result: "Mapping[str, Any]", peer: str, name: str) -> str:
    value = _evidence(result, peer, name)
    return "-" if value is None else f"{value:.2f}"

"""The receiver: a ServerApp that asks the one node for its arrays, again and again, and stores what it took.

With `pauses` it asks as Flower's strategies do, which look for answers every three seconds. Without, each
side is told by a file when there is something for it: who looks too early waits a second, by Flower's rule.
"""

import json
import os
import time
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

from bench_app.ends import arrays_of, mark, require_same, tell, wait_for

app = ServerApp()


@app.main()
def main(grid, context):
    """Make the exchanges that the run's configuration names."""
    config = context.run_config
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(1)
    told = Path(config["out"]).parent
    turns = []
    for turn in range(config["exchanges"]):
        question = RecordDict({"question": ConfigRecord({"turn": turn})})
        message = Message(question, nodes[0], "query")
        used, begun = processor_seconds(config), time.perf_counter()
        if config["pauses"]:
            (answer,) = grid.send_and_receive([message])
        else:
            answer = ask_at_once(grid, message, told=told, turn=turn)
        came = answer.content["arrays"].to_numpy_ndarrays()
        seconds = time.perf_counter() - begun
        now = processor_seconds(config)
        turns.append({"seconds": seconds, **{end: now[end] - used[end] for end in now}})
        require_same(came, mark(arrays_of(config["mebibytes"]), turn))
    out = Path(config["out"])
    # Whoever waits for the file reads it at once.
    out.with_suffix(".part").write_text(json.dumps(turns))
    out.with_suffix(".part").rename(out)


def ask_at_once(grid, message, *, told, turn):
    """Return the answer, fetched when the sender says that all of it is at the SuperLink."""
    identifiers = list(grid.push_messages([message]))
    tell(told / f"asked-{turn}")
    wait_for(told / f"answered-{turn}")
    (answer,) = grid.pull_messages(identifiers)
    return answer


def processor_seconds(config):
    """Return what each process has used so far, of those that are measured."""
    ticks = os.sysconf("SC_CLK_TCK")
    used = {"receiver": time.process_time()}
    for end in ("sender", "between"):
        if config[end]:
            fields = Path(f"/proc/{config[end]}/stat").read_text().rpartition(")")[2].split()
            used[end] = (int(fields[11]) + int(fields[12])) / ticks
    return used

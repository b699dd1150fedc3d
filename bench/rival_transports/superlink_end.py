"""The sender without Flower's pauses: `python superlink_end.py PORT FOLDER MIB TOLD`, by Flower's Python.

It is what a SuperNode is to its SuperLink, by Flower's own connection, and answers itself what a SuperNode
hands to a ClientApp in another process. Files in TOLD say when there is a question, and when all of the
answer is at the SuperLink.
"""

import sys
from functools import partial
from itertools import count
from pathlib import Path

from ends import arrays_of, mark, say, tell, wait_for
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_objects, push_object_contents_from_iterable
from flwr.supernode.fleet_http_connection import http_request_response


def main(port, folder, mebibytes, told):
    """Answer questions."""
    arrays = arrays_of(mebibytes)
    roots = (folder / "ca.crt").read_bytes()
    with http_request_response(f"127.0.0.1:{port}", insecure=False, root_certificates=roots) as connection:
        _, receive, send, _, _, pull, push, confirm = connection
        say({})
        for turn in count():
            wait_for(told / f"asked-{turn}")
            question, tree = receive()
            run = question.metadata.run_id
            pull_objects([each.object_id for each in iterate_object_tree(tree)], partial(pull, run))
            confirm(run, question.metadata.message_id)
            reply = Message(RecordDict({"arrays": ArrayRecord(mark(arrays, turn))}), reply_to=question)
            give(reply, send, partial(push, run))
            tell(told / f"answered-{turn}")


def give(reply, send, push):
    """Send a reply as a SuperNode does."""
    reply.metadata.__dict__["_message_id"] = reply.object_id
    with no_object_id_recompute():
        objects = get_all_nested_objects(reply)
        wanted, session = send(reply, get_object_tree(reply), 0.0)
        contents = ((name, objects[name].deflate()) for name in wanted)
        push_object_contents_from_iterable(contents, partial(push, session))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))

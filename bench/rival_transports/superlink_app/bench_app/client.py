"""The sender where a real SuperNode runs it: answers each query with the arrays."""

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from bench_app.ends import arrays_of, mark

app = ClientApp()


@app.query()
def answer(message, context):
    """Return the arrays."""
    arrays = mark(arrays_of(context.run_config["mebibytes"]), message.content["question"]["turn"])
    return Message(RecordDict({"arrays": ArrayRecord(arrays)}), reply_to=message)

"""`doctor`: what is wrong with a node's set-up, and what mends it."""

from qkt_node.cli.awaiting import run
from qkt_node.cli.output import Answer, Output
from qkt_node.cli.tables import Table
from qkt_node.cli.verbs import HomeOption
from qkt_p2p.errors import ConfigError


def doctor(output: Output, home: HomeOption) -> Answer:
    """Check a node's home, settings, certificate, port, peers, data and model; name what mends each."""
    from qkt_node.log import configure_logging  # isort: skip - first, see there

    from qkt_node.doctor import examine
    from qkt_node.home import open_home

    configure_logging("auto", "error")
    found = run(examine(open_home(home)))
    data = [
        {"check": each.check, "level": each.level, "message": each.message, "fix": each.fix} for each in found
    ]
    rows = [[each.check, each.level, each.message] for each in found]
    fixes = [f"to mend {each.check}: {each.fix}" for each in found if each.fix]
    wrong = [each for each in found if each.level == "error"]
    error = None
    if wrong:
        checks = "a check" if len(wrong) == 1 else f"{len(wrong)} checks"
        error = ConfigError(f"{checks} failed: {', '.join(each.check for each in wrong)}", fix=wrong[0].fix)
    return Answer({"checks": data}, [Table(["check", "", "found"], rows), *fixes], error)

"""`budget`: what peers may still learn of this node's data, and whom it taught what, from its files alone."""

from typing import TYPE_CHECKING, Any

from qkt_node.cli.output import Answer, Output
from qkt_node.cli.question import shown_time
from qkt_node.cli.tables import Table
from qkt_node.cli.verbs import HomeOption

if TYPE_CHECKING:
    from qkt_node.privacy_view import Account
    from qkt_p2p.privacy.ledger import Disclosure


def budget(output: Output, home: HomeOption) -> Answer:
    """Show the privacy that each class has spent, what is left, and whom this node taught what."""
    from qkt_node.config import load_config
    from qkt_node.home import open_home
    from qkt_node.privacy_view import account_of

    opened = open_home(home)
    account = account_of(opened, load_config(opened.config_file))
    limit = account.budget
    data = {
        "epsilon": limit.epsilon if limit else None,
        "release_epsilon": limit.release_epsilon if limit else None,
        "delta": limit.delta if limit else None,
        "classes": [
            {
                "class": each.class_name,
                "releases": each.releases,
                "epsilon_spent": each.spent,
                "releases_left": each.releases_left,
            }
            for each in account.classes
        ],
        "taught": [_taught(each, account.names.get(each.peer, "")) for each in account.disclosures],
    }
    return Answer(data, [_sentence(account), *_tables(data)])


def _sentence(account: "Account") -> str:
    limit = account.budget
    if limit is None:
        return "no budget: what this node teaches carries no noise; [privacy] epsilon in node.toml sets one"
    return (
        f"each class: epsilon {limit.epsilon:g} in all, {limit.release_epsilon:g} a release, at delta "
        f"{limit.delta:g}, for adding or removing one sample"
    )


def _taught(disclosure: "Disclosure", name: str) -> dict[str, Any]:
    return {
        "peer": disclosure.peer,
        "name": name,
        "class": disclosure.class_name,
        "medium": disclosure.medium,
        "epsilon": disclosure.epsilon,
        "delta": disclosure.delta,
        "times": disclosure.times,
        "first_at": shown_time(disclosure.first_at),
        "last_at": shown_time(disclosure.last_at),
    }


def _tables(data: dict[str, Any]) -> list[str | Table]:
    spent = [
        [each["class"], str(each["releases"]), f"{each['epsilon_spent']:.3g}", str(each["releases_left"])]
        for each in data["classes"]
    ]
    taught = [
        [
            each["name"] or "-",
            each["peer"][:8],
            each["class"],
            each["medium"],
            f"{each['epsilon']:g}" if each["epsilon"] else "no noise",
            str(each["times"]),
            each["last_at"],
        ]
        for each in data["taught"]
    ]
    shown: list[str | Table] = []
    if spent:
        shown.append(Table(["class", "releases", "epsilon spent", "releases left"], spent))
    if taught:
        columns = ["taught to", "id", "class", "medium", "epsilon", "times", "last"]
        shown.append(Table(columns, taught, spare=("id", "times")))
    else:
        shown.append("nobody was taught anything yet")
    return shown

"""What users and scripts may rely on, spelled out once for every test that holds the product to it."""

from __future__ import annotations

QUERY_KEYS = {
    "query_id",
    "classes",
    "outcome",
    "mode",
    "medium",
    "accuracy",
    "mean_query_accuracy",
    "mean_local_accuracy",
    "teachers",
    "masks",
    "bytes_sent",
    "bytes_received",
    "seconds",
    "epsilon_spent",
    "model_version",
    "report",
}
"""Keys of the `data` of a query; additions are welcome, renames are not."""

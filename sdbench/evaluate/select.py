"""Which checkpoint to report: the best on validation, never on test.

Picking the best of ten equal checkpoints on 30 test problems adds 2.9 points to Avg@12 by chance
alone. So the test set is not looked at here, and the last checkpoint is always reported as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sdbench.evaluate.score import metric_of
from sdbench.records import Metric
from sdbench.rundir import Row


@dataclass(frozen=True, slots=True)
class Selection:
    """The choice and its grounds.

    Attributes:
        metric: What was compared, on validation.
        scores: The metric of every checkpoint, `000000` being the untrained model.
        selected: The trained checkpoint with the highest score; the earliest of equals.
        last: The last checkpoint.
    """

    metric: str
    scores: dict[str, Metric]
    selected: str
    last: str

    def as_row(self) -> Row:
        """JSON, as in `selection.json`."""
        scores: Row = {label: asdict(metric) for label, metric in self.scores.items()}
        return {
            "metric": self.metric,
            "split": "validation",
            "scores": scores,
            "selected": self.selected,
            "last": self.last,
        }


def select(results: Mapping[str, Row], metric: str) -> Selection:
    """Chooses among checkpoints by their validation results.

    Args:
        results: `results.json` of each checkpoint, `000000` for the untrained model.
        metric: Name of the metric, for example `avg@4`.
    """
    scores = {label: metric_of(one, metric) for label, one in sorted(results.items())}
    trained = [label for label in scores if int(label) > 0]
    best = max(trained, key=lambda label: (scores[label].value, -int(label)))
    return Selection(metric, scores, best, trained[-1])

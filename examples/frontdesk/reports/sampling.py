"""Bootstrap intervals: how sure a mean or a median is, found by drawing new samples from the sample itself.

After Efron (1979), with percentile intervals. Plain Python on purpose: this is the work that a worker is there for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Final

LEVEL: Final = 0.95
SEED: Final = 1979


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the interval that holds 95 of 100 resampled ones."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """The intervals of a sample's mean and median, and the resampled means and medians, sorted."""

    mean: Interval
    median: Interval
    means: list[float]
    medians: list[float]


def bootstrap(
    values: Sequence[float], *, resamples: int, tick: Callable[[int], None] = lambda _done: None
) -> Bootstrap:
    """Draw `resamples` samples of the values' own size, with replacement. `tick` hears after each how many are done.

    The same values give the same intervals: the random numbers start from a fixed seed.
    """
    random = Random(SEED)  # noqa: S311 - statistics, not secrets
    size = len(values)
    means, medians = [], []
    for done in range(1, resamples + 1):
        sample = random.choices(values, k=size)
        means.append(sum(sample) / size)
        sample.sort()
        medians.append(quantile(sample, 0.5))
        tick(done)
    means.sort()
    medians.sort()
    return Bootstrap(
        mean=_interval(fmean(values), means),
        median=_interval(quantile(sorted(values), 0.5), medians),
        means=means,
        medians=medians,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which this share of the sorted values lies, by linear interpolation."""
    position = (len(ordered) - 1) * share
    lower = int(position)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (position - lower)


def _interval(estimate: float, resampled: Sequence[float]) -> Interval:
    tail = (1 - LEVEL) / 2
    return Interval(estimate=estimate, low=quantile(resampled, tail), high=quantile(resampled, 1 - tail))

"""The loop of train(): ask, play, tell, normalise, evaluate.

BGS.ask -> blocks -> Team -> BGS.tell -> moments -> hooks -> evaluation -> log
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bgs_opt import BGS
from bgs_opt.errors import WorkerLostWarning
from bgs_opt.normalization import RunningMoments
from bgs_opt.protocols import FloatArray
from bgs_opt.validation import integer

from .gymnasium_episodes import Episodes
from .policy_genes import GeneRun
from .policy_player import Block, blocks_of
from .policy_team import Team

__all__ = ["COLUMNS", "Evaluation", "Hooks", "Progress", "Training"]

COLUMNS = (
    "generation", "episodes", "steps", "mean_return", "best_return", "sigma", "evaluation",
    "seconds",
)  # fmt: skip
_EVALUATION_SEED = 0xE7A1


@dataclass(frozen=True)
class Evaluation:
    """Episodes that say how good the policy is, apart from those it learns by.

    Parameters
    ----------
    every : int
        Generations between two evaluations; 0: only at the end.
    episodes : int
        Episodes of each, the same ones every time, with the most likely actions.
    """

    every: int = 4
    episodes: int = 10

    def __post_init__(self) -> None:
        integer("every", self.every, 0)
        integer("episodes", self.episodes, 1)


@dataclass
class Progress:
    """What changes in a run beside the optimizer; every number of it is in the checkpoint."""

    moments: RunningMoments | None = None
    episodes: int = 0
    steps: int = 0
    evaluation_episodes: int = 0
    seconds: float = 0.0
    best: float = -math.inf  # mean return of the best evaluation
    best_vector: FloatArray | None = None
    best_moments: RunningMoments | None = None
    best_genes: FloatArray | None = None
    best_fittest: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)  # one a generation
    finished: dict[int, Episodes] = field(default_factory=dict)
    # of a generation that an error ended: blocks that were played, by their first candidate


@dataclass(frozen=True)
class Hooks:
    """The caller's part in the loop."""

    after_step: Callable[[Any], object] | None = None
    log: Callable[[dict[str, float]], object] | None = None
    average_every: int = 0
    gains: FloatArray | None = None  # where the center is pulled to one, and how fast


@dataclass
class Training:
    """A run, ready to take its next generation."""

    opt: BGS
    team: Team
    evaluation: Evaluation
    hooks: Hooks
    progress: Progress
    lanes: int
    genes: GeneRun | None = None

    # ---- one generation

    def generation(self) -> None:
        """Ask, play, tell, and let the hooks see it."""
        began, progress = time.monotonic(), self.progress
        number = self.opt.generation
        pending = self.opt.pending  # of a generation that was interrupted
        candidates = pending if len(pending) else self.opt.ask()
        genes = None if self.genes is None else self.genes.of_candidates(candidates)
        blocks = list(blocks_of(candidates, self.lanes, progress.moments, genes))
        starts = _starts(blocks)
        known = {n: kept for n, start in enumerate(starts)
                 if (kept := progress.finished.get(start)) is not None
                 and len(kept.returns) == len(blocks[n].seeds)}  # fmt: skip
        try:
            played = self.team.play(blocks, known)
        finally:
            progress.finished = {starts[n]: result for n, result in known.items()}
        progress.finished = {}
        values, returns = np.full((2, len(candidates)), np.nan)
        lost = np.zeros(len(candidates), bool)
        for block, (result, start) in enumerate(zip(played, starts, strict=True)):
            where = slice(start, start + len(blocks[block].seeds))
            if isinstance(result, str):
                lost[where] = True
                warnings.warn(
                    f"a block of {len(blocks[block].seeds)} episodes was given up: {result}",
                    WorkerLostWarning, stacklevel=2,
                )  # fmt: skip
                continue
            values[where], returns[where] = result.shaped, result.returns
            self._count(result)
        self.opt.tell(candidates[~lost], values[~lost])
        if lost.any():
            self.opt.discard(candidates[lost])
        if self.genes is not None:
            self.genes.learn(self.opt, candidates, values, returns, ~lost)
        self._after(number)
        finite = returns[np.isfinite(returns)]
        numbers = (
            number, progress.episodes, progress.steps,
            float(finite.mean()) if finite.size else math.nan,
            float(finite.max()) if finite.size else math.nan,
            self.opt.sigma, math.nan, 0.0,
        )  # fmt: skip
        row = dict(zip(COLUMNS, map(float, numbers), strict=True))
        progress.rows.append(row if self.genes is None else row | self.genes.row())
        progress.seconds += time.monotonic() - began

    def _count(self, played: Episodes) -> None:
        self.progress.episodes += len(played.returns)
        self.progress.steps += int(played.lengths.sum())
        if self.progress.moments is not None and played.moments is not None:
            self.progress.moments = self.progress.moments.merged(played.moments)

    def _after(self, number: int) -> None:
        """What happens to the center beside the step of the method."""
        hooks, opt = self.hooks, self.opt
        if hooks.average_every and (number + 1) % hooks.average_every == 0:
            opt.move_to(opt.average)
        if hooks.gains is not None:
            opt.move_to(opt.center + hooks.gains * (1 - opt.center))
        if hooks.after_step is not None:
            flat = self.team.player.flat
            flat.from_numpy(opt.center)
            hooks.after_step(flat.module)
            changed = flat.to_numpy().astype(opt.center.dtype)
            if not np.array_equal(changed, opt.center):
                opt.move_to(changed)

    # ---- how good it is

    def evaluate(self) -> float:
        """Mean return of the center, or of its average; the best one is remembered."""
        began, progress = time.monotonic(), self.progress
        vector = np.array(self.opt.average)
        count = self.evaluation.episodes
        seeds = [int(s) for s in np.random.SeedSequence(_EVALUATION_SEED).generate_state(count)]
        members = np.broadcast_to(vector, (count, len(vector)))
        pool = None if self.genes is None else self.genes.pool
        genes = None if pool is None else np.repeat(pool.genes[pool.fittest][None], count, axis=0)
        blocks = [
            Block(members[at : at + self.lanes], tuple(seeds[at : at + self.lanes]),
                  progress.moments, observe=False, greedy=True,
                  genes=None if genes is None else genes[at : at + self.lanes])
            for at in range(0, count, self.lanes)
        ]  # fmt: skip
        results = [r for r in self.team.play(blocks) if not isinstance(r, str)]
        progress.evaluation_episodes += count
        value = (
            float(np.mean(np.concatenate([r.returns for r in results]))) if results else -math.inf
        )
        if progress.best_vector is None or value >= progress.best:
            progress.best = value
            progress.best_vector, progress.best_moments = vector, progress.moments
            if pool is not None:
                progress.best_genes, progress.best_fittest = pool.genes.copy(), pool.fittest
        if progress.rows:
            progress.rows[-1]["evaluation"] = value
        progress.seconds += time.monotonic() - began
        return value

    def is_due(self) -> bool:
        """Whether this generation is one after which there is an evaluation."""
        every = self.evaluation.every
        return every > 0 and self.opt.generation % every == 0

    def is_unevaluated(self) -> bool:
        """Whether the center moved since it was evaluated."""
        rows = self.progress.rows
        return not rows or not math.isfinite(rows[-1]["evaluation"])

    def note(self) -> bool:
        """Tell the logger of the last generation; True if it wants to stop."""
        progress = self.progress
        progress.rows[-1]["seconds"] = progress.seconds
        if self.team.ranks.rank or self.hooks.log is None:
            return False
        row = progress.rows[-1].items()
        return self.hooks.log({n: value for n, value in row if math.isfinite(value)}) is True

    def settle(self) -> None:
        """Put the best policy that was evaluated into the module."""
        vector, moments = self.progress.best_vector, self.progress.best_moments
        if vector is None:
            vector, moments = self.opt.average, self.progress.moments
        player = self.team.player
        player.flat.from_numpy(vector)
        if player.policy.normalizer is not None and moments is not None:
            player.policy.normalizer.load(moments)
        if self.genes is not None:
            genes, fittest = self.progress.best_genes, self.progress.best_fittest
            if genes is None:
                genes, fittest = self.genes.pool.genes, self.genes.pool.fittest
            player.policy.hold(genes, fittest)


def _starts(blocks: list[Block]) -> list[int]:
    sizes = [len(block.seeds) for block in blocks]
    return [0, *np.cumsum(sizes)[:-1].tolist()]

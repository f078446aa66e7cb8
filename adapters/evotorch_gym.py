"""Common random numbers for EvoTorch's GymNE: both ends of a pair play the same episodes."""

from __future__ import annotations

from typing import Any

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch_gym", extra="evotorch,gym"):
    import gymnasium
    import torch
    from evotorch.core import SolutionBatch
    from evotorch.neuroevolution import GymNE

from bgs_opt.validation import integer

from .evotorch_actors import Call, Sample, gather, shares
from .evotorch_sampling import mixed

__all__ = ["PairedGymNE"]


class _SeededResets(gymnasium.Wrapper):
    """Seeds the next reset, if a seed is there for it."""

    next_seed: int | None = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """See :class:`gymnasium.Env`."""
        seed, self.next_seed = self.next_seed if seed is None else seed, None
        return self.env.reset(seed=seed, options=options)


class PairedGymNE(GymNE):
    """GymNE whose episodes are seeded: runs repeat, and both ends of a pair play the same ones.

    The difference of two fitnesses then has less variance, by as much as the start of an episode
    decides its return. Different pairs, episodes and generations have different seeds, and which
    actor plays an episode changes nothing about it. Rows 2i and 2i + 1 of a population are taken
    as a pair, which is right for BGS, PGPE and every other searcher with symmetric sampling.

    Parameters
    ----------
    *args, **kwargs
        Those of :class:`evotorch.neuroevolution.GymNE`.
    env_seed : int
        Seed of all episodes of evaluations, >= 0. ``run``, ``visualize`` and the like stay as
        random as they are.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        (also ValueError, TypeError) for an ``env_seed`` that is no int >= 0.
    """

    _original_network: Any

    def __init__(self, *args: Any, env_seed: int = 0, **kwargs: Any) -> None:
        self._env_seed = integer("env_seed", env_seed, 0)
        self._played = 0  # populations that were evaluated
        self._place: tuple[int, ...] | None = None  # of the first row of a batch, ...
        self._share: Sample | None = None  # ... or what it was sampled from
        self._row: tuple[int, ...] | None = None  # which is being evaluated
        self._episode = 0
        super().__init__(*args, **kwargs)

    def _prepare(self) -> None:
        network = self._original_network
        super()._prepare()  # forgets it, after which a pickled problem could not go on
        self._original_network = network

    def _instantiate_new_env(self, **kwargs: Any) -> gymnasium.Env[Any, Any]:
        return _SeededResets(super()._instantiate_new_env(**kwargs))

    def _sample_and_compute_gradients(self, distribution: Any, *args: Any, **kwargs: Any) -> Any:
        self._share = distribution if isinstance(distribution, Sample) else None
        try:
            return super()._sample_and_compute_gradients(distribution, *args, **kwargs)
        finally:
            self._share = None

    def _evaluate_placed(self, piece: SolutionBatch, place: tuple[int, ...]) -> torch.Tensor:
        self._place = place
        try:
            self.evaluate(piece)
        finally:
            self._place = None
        return piece.access_evals()

    def _evaluate_all(self, batch: SolutionBatch) -> None:
        if self.actors is None:
            super()._evaluate_all(batch)
            return
        pairs, number = -(-len(batch) // 2), self._played
        pieces = [(2 * first, 2 * (first + count)) for first, count in shares(self, pairs)]
        calls: list[Call] = [("_evaluate_placed", [batch[low:high], (number, 0, low)], {})
                 for low, high in pieces]  # fmt: skip
        for (low, high), (evals, _) in zip(pieces, gather(self, calls), strict=True):
            batch.access_evals()[low:high] = evals
        self._played += 1

    def _evaluate_batch(self, batch: SolutionBatch) -> None:
        known = self._place if self._share is None else self._share.place
        *place, first = (self._played, 0, 0) if known is None else known
        try:
            for number, solution in enumerate(batch):
                self._row, self._episode = (*place, (first + number) // 2), 0
                self._evaluate(solution)
        finally:
            self._row = None
        if known is None:
            self._played += 1

    def _rollout(self, **kwargs: Any) -> dict[str, Any]:
        if self._row is not None:
            seed = mixed(self._env_seed, *self._row, self._episode) & 0x7FFFFFFF
            self._get_env().next_seed = seed
            self._episode += 1
        result: dict[str, Any] = super()._rollout(**kwargs)
        return result

"""Episodes of candidates: blocks of them, played here or by others.

    candidates --cut--> blocks --play--> Episodes of each --in order--> values, moments

A block is played in step, and what comes of it depends on nothing but the block: so the result
is the same whoever plays which.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch

from bgs_opt.candidates import Candidates
from bgs_opt.errors import ArgumentTypeError
from bgs_opt.normalization import RunningMoments
from bgs_opt.protocols import FloatArray, IntArray

from .gymnasium import Arena, arena_of
from .gymnasium_episodes import Episodes, Rollout
from .policy_module import Policy
from .torch import FlatParameters, Names
from .torch_population import Population, taken

__all__ = ["Block", "Player", "blocks_of", "perturbed"]


@dataclass(frozen=True, eq=False)
class Block:
    """Episodes to play: members, one seed each, and what observations are normalised by."""

    members: Any  # Candidates, an array (n, d), or None: random outputs
    seeds: tuple[int, ...]
    moments: RunningMoments | None
    observe: bool  # whether moments of the observations are wanted
    greedy: bool = False  # take the most likely actions, even where others are drawn
    genes: FloatArray | None = None  # one for each member, shape (n, dim)


def blocks_of(
    candidates: Candidates, size: int, moments: RunningMoments | None, genes: FloatArray | None
) -> Iterator[Block]:
    """Cut candidates, and the genes they play with, into blocks of at most ``size``, in order."""
    seeds = candidates.seeds.tolist()
    for start in range(0, len(candidates), size):
        where = slice(start, start + size)
        yield Block(candidates[where], tuple(seeds[where]), moments, moments is not None,
                    genes=None if genes is None else genes[where])  # fmt: skip


@dataclass(eq=False)
class Player:
    """Plays blocks; goes to worker processes as the policy and what makes its environment."""

    policy: Policy
    env: Any
    rollout: Rollout
    include: Names = None
    exclude: Names = None
    compile: bool = False

    def __post_init__(self) -> None:
        self.shares_forward: bool | None = None
        self._arena: Arena | None = None
        self._flat: FlatParameters | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_arena": None, "_flat": None}

    @property
    def arena(self) -> Arena:
        """Where episodes are played; made when it is first used."""
        if self._arena is None:
            self._arena = arena_of(self.env, self.rollout)
        return self._arena

    @property
    def lanes(self) -> int:
        """Episodes of a block: as many as are wanted, where there are so many environments."""
        return min(self.rollout.lanes or self.arena.lanes, self.arena.lanes)

    @property
    def flat(self) -> FlatParameters:
        """The parameters that are searched."""
        if self._flat is None:
            network = self.policy.network
            self._flat = FlatParameters(network, include=self.include, exclude=self.exclude)
        return self._flat

    def __call__(self, block: Block, seed: int = 0) -> Episodes:
        """Play a block."""
        self.policy.eval()
        if block.members is None:
            return self._probe(block)
        if self.policy.normalizer is not None and block.moments is not None:
            self.policy.normalizer.load(block.moments)
        acting = _Acting(self, block)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker process: sums of several threads round otherwise
        try:
            return self.arena.play(acting, block.seeds, observe=block.observe, greedy=block.greedy)
        finally:
            acting.release()
            torch.set_num_threads(threads)

    def misfit(self, error: Exception) -> ArgumentTypeError:
        """What to raise when the policy cannot take what the environment gives."""
        return ArgumentTypeError(
            f"policy: expected a module that takes observations of shape "
            f"{self.arena.observation_shape}"
            f"{' and a hidden state' if self.policy.recurrent else ''}; it raised "
            f"{type(error).__name__}: {error}"
        )

    def _probe(self, block: Block) -> Episodes:
        """Episodes of random outputs, with the observations they met."""
        generator = np.random.default_rng(block.seeds)
        seen: list[FloatArray] = []
        size = self.arena.actions.size

        def act(observations: FloatArray, rows: IntArray) -> Any:
            seen.append(observations.copy())
            if size is None:
                return self._center_act(observations, rows, block.genes)
            return generator.uniform(-1, 1, (len(rows), size))

        played = self.arena.play(act, block.seeds, observe=True)
        return dataclasses.replace(played, observations=np.concatenate(seen))

    def _center_act(self, observations: FloatArray, rows: IntArray, genes: Any) -> Any:
        """What the policy does as it is, forgetting each time what it saw before."""
        vector = self.flat.vector
        gene = None if genes is None else _like(genes[rows], vector)
        with torch.no_grad():
            out = self.policy.outputs(_like(observations, vector), gene=gene)
        return _numbers(out[0] if self.policy.recurrent else out)

    def close(self) -> None:
        """Free the environments."""
        if self._arena is not None:
            self._arena.close()
            self._arena = None


def _like(array: Any, vector: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(vector.device, vector.dtype)


def _numbers(out: torch.Tensor) -> Any:
    """Outputs as an array; half precisions as float32."""
    out = out.detach().cpu()
    return (out.float() if out.dtype in (torch.float16, torch.bfloat16) else out).numpy()


class _Acting:
    """The members of a block, those whose episodes go on, each with its hidden state."""

    def __init__(self, player: Player, block: Block) -> None:
        self._player, self._block, self._compile = player, block, player.compile
        self._policy, self._flat = player.policy, player.flat
        self._population: Any = None
        self._rows: IntArray | None = None
        self._hidden: Any = None
        self._gene: torch.Tensor | None = None
        self._acted = False

    def __call__(self, observations: FloatArray, rows: IntArray) -> Any:
        if self._rows is None or len(rows) != len(self._rows):
            self._choose(rows)
        given = _like(observations, self._flat.vector)
        with torch.no_grad():
            given, named = self._policy.given(given, self._gene)
            hidden = () if self._hidden is None else (self._hidden,)
            try:
                out = self._population(given, *hidden, **named)
            except (RuntimeError, TypeError) as error:
                if self._acted:
                    raise
                raise self._player.misfit(error) from error
        if self._policy.recurrent:
            if not isinstance(out, (tuple, list)) or len(out) != 2:
                raise ArgumentTypeError(
                    "policy: expected a recurrent one to return (outputs, hidden); got "
                    f"{type(out).__name__}"
                )
            out, self._hidden = out
        self._acted = True
        if isinstance(self._block.members, Candidates):  # a first block shows it for all
            self._player.shares_forward = self._population.shares_forward
        return _numbers(out)

    def release(self) -> None:
        """Free the members at once: they are part of a cycle that would wait for the collector."""
        if self._population is not None:
            self._population.release()

    def _choose(self, rows: IntArray) -> None:
        """Go on with these members alone."""
        self.release()
        if self._rows is not None and self._hidden is not None:
            self._hidden = taken(self._hidden, np.searchsorted(self._rows, rows))
        self._rows = rows.copy()
        if self._block.genes is not None:
            self._gene = _like(self._block.genes[rows], self._flat.vector)
        members = self._block.members[rows]
        shares = self._player.shares_forward if isinstance(members, Candidates) else False
        self._population = Population(
            self._flat, members, compile=self._compile, factorised=shares
        )


def perturbed(
    player: Player,
    observations: FloatArray,
    moments: RunningMoments | None,
    seed: int,
    genes: FloatArray | None,
    scale: FloatArray | None,
) -> Callable[[float], float]:
    """How much sigma moves outputs apart: the deviation, over observations, of the change.

    Parameters
    ----------
    player : Player
    observations : ndarray, shape (n, *shape)
    moments : RunningMoments or None
        What they are normalised by.
    seed : int
    genes : ndarray, shape (m, dim), or None
        Of which each observation gets one.
    scale : ndarray, shape (d,), or None
        Of the perturbations, in each coordinate.

    Returns
    -------
    callable of sigma
    """
    policy, flat = copy.deepcopy(player.policy), player.flat
    if policy.normalizer is not None and moments is not None:
        policy.normalizer.load(moments)
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(observations))[:256]
    given = _like(observations[np.sort(chosen)], flat.vector)
    center = flat.to_numpy().astype(np.float64)
    moves = generator.standard_normal((8, len(center)))
    moves = moves if scale is None else moves * scale
    gene = None if genes is None else genes[generator.integers(len(genes), size=len(given))]
    given, named = policy.given(given, None if gene is None else _like(gene, flat.vector))

    def one(
        parameters: dict[str, torch.Tensor], observation: torch.Tensor, named: dict[str, Any]
    ) -> Any:
        out = flat.call(parameters, (observation,), named)
        return out[0] if policy.recurrent else out

    # for each member each observation by itself: batches are not every module's matter
    each = torch.func.vmap(torch.func.vmap(one, in_dims=(None, 0, 0), randomness="different"),
                           in_dims=(0, None, None), randomness="different")  # fmt: skip

    def outputs(points: FloatArray) -> FloatArray:
        with torch.no_grad():
            made = each(flat.named(_like(points, flat.vector)), given, named)
        return np.asarray(made.double().cpu().numpy())

    try:
        still = outputs(center[None])
    except (RuntimeError, TypeError) as error:
        raise player.misfit(error) from error

    def changed(sigma: float) -> float:
        difference = outputs(center + sigma * moves) - still
        return float(np.sqrt(np.mean(np.var(difference, axis=1))))

    return changed

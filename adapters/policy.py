"""train(): policies of torch in environments of gymnasium, by blackbox gradient sensing.

    result = train("linear", "LunarLander-v3", env_options...)
    action = result.policy(observation)

The center's step is plain, 0.7 sigma of the weighted mean of the directions that were kept, as
in ARS (Mania et al. 2018, arXiv 1803.07055); sigma is found from what it does to the outputs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import gymnasium  # noqa: F401
    import torch

from bgs_opt import GenePool
from bgs_opt.interrupts import Interrupts
from bgs_opt.protocols import FloatArray
from bgs_opt.start import checkpoint_of, options_of
from bgs_opt.streams import entropy_of
from bgs_opt.validation import flag, integer, real

from .gymnasium_episodes import Rollout
from .policy_genes import Genes
from .policy_keeping import restore
from .policy_keeping import resume as resume_run
from .policy_module import Policy
from .policy_networks import MLP, Actor, Linear
from .policy_normalizer import Normalizer
from .policy_run import MESSAGES, bar_of, limits_of, run
from .policy_setup import (
    gains_of,
    genes_of,
    logger_of,
    optimizer_of,
    player_of,
    resolved,
    warm_up,
)
from .policy_team import Ranks, Team
from .policy_training import COLUMNS, Evaluation, Hooks, Training
from .torch import Names
from .torch_optimizer import TorchOptimizer

__all__ = [
    "MLP",
    "Actor",
    "Evaluation",
    "Genes",
    "Linear",
    "Normalizer",
    "Policy",
    "Rollout",
    "TorchOptimizer",
    "TrainResult",
    "train",
]


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What :func:`train` returns.

    Attributes
    ----------
    policy : Policy
        With the numbers of the best evaluation; its ``network`` is the module that was given.
    evaluation : float
        Mean return of that evaluation.
    success, reason, message : bool, str, str
        How the training ended.
    generations, episodes, steps, evaluation_episodes : int
        How much was played, episodes of random actions included in ``episodes``.
    sigma : float
    pool : GenePool or None
        The genes at the end of the training; those of the best evaluation are the policy's.
    history : dict of ndarray
        One number a generation, by name: ``generation``, ``episodes``, ``steps`` (so far),
        ``mean_return``, ``best_return`` (of its episodes), ``sigma``, ``evaluation`` (NaN where
        there was none), ``seconds`` (so far); with genes ``diversity`` (mean cosine distance)
        and ``fitness_0``, ``fitness_1``, ... (the largest of each island, as last told).
    """

    policy: Policy
    evaluation: float
    success: bool
    reason: str
    message: str
    generations: int
    episodes: int
    steps: int
    evaluation_episodes: int
    sigma: float
    pool: GenePool | None
    history: dict[str, FloatArray]


def train(
    policy: torch.nn.Module | str,
    env: Any,
    *,
    generations: int | None = None,
    episodes: int | None = None,
    max_time: float | None = None,
    target: float | None = None,
    sigma: float | None = None,
    num_directions: int | None = None,
    seed: Any = None,
    rollout: Rollout | None = None,
    evaluation: Evaluation | None = None,
    normalize: bool | None = None,
    recurrent: bool | None = None,
    policy_options: Mapping[str, Any] | None = None,
    include: Names = None,
    exclude: Names = None,
    genes: GenePool | Genes | None = None,
    workers: int | Executor = 1,
    timeout: float | None = None,
    retries: int = 1,
    device: Any = None,
    compile: bool = False,
    average_every: int = 0,
    gain_decay: float = 0.0,
    after_step: Callable[[torch.nn.Module], object] | None = None,
    log: Callable[[dict[str, float]], object] | str | os.PathLike[str] | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 30.0,
    **bgs_options: Any,
) -> TrainResult:
    """Train a policy by its returns alone.

    Parameters
    ----------
    policy : torch.nn.Module or {"linear", "mlp", "actor"}
        From observations to outputs: one for each choice of a Discrete space, one for each number
        of a Box, whose range is -1 .. 1. A module is trained in place.
    env : str, EnvSpec, callable, environment, VectorEnv, or a list of them
        See :func:`bgs_opt.adapters.gymnasium.arena_of`.
    generations, episodes, max_time : int, int, float, optional
        When to stop: updates, training episodes, seconds. By default 100 generations.
    target : float, optional
        Stop when an evaluation has this mean return.
    sigma : float, optional
        Size of the perturbations at the start; by default the one that moves outputs apart by a
        standard deviation of 1, or 0.7 where observations are normalised, over those that random
        actions meet.
    num_directions : int, optional
        Pairs of episodes in a generation, 8 by default.
    seed : None, int, SeedSequence or Generator
        The same seed gives the same bits, for any number of workers or ranks.
    rollout : Rollout, optional
        How episodes are played.
    evaluation : Evaluation, optional
        How often, and by how many episodes, the policy is evaluated.
    normalize : bool, optional
        Whether observations are normalised by their running mean and deviation; by default where
        the environment does not say how large they are (a side of its space is open).
    recurrent : bool, optional
        Whether the policy takes and returns a hidden state; see
        :class:`bgs_opt.adapters.policy_module.Policy`.
    policy_options : mapping, optional
        Further arguments of a policy that is named.
    include, exclude : str or iterable of str, optional
        Parameters to train; see :class:`bgs_opt.adapters.torch.FlatParameters`.
    genes : GenePool or Genes, optional
        Latent genes: every candidate is played with each of them, and they evolve by what they
        earn; see :class:`bgs_opt.adapters.policy_genes.Genes`. A policy that is named is made for
        them; for others see :class:`bgs_opt.adapters.policy_module.Policy`. Directions are kept
        where ``Options.acceptance`` holds for ``Options.accept_fraction`` of the genes.
    workers : int or concurrent.futures.Executor
        Processes that play, or an executor of any kind. In a run of ``torchrun`` or ``accelerate
        launch`` every rank plays its share, each with so many workers.
    timeout : float, optional
        Seconds that a block of ``rollout.lanes`` episodes may take.
    retries : int
        How often a block is played again whose process died.
    device : torch.device or str, optional
        Where the policy acts.
    compile : bool
        Compile the forward pass by ``torch.compile``.
    average_every : int
        After so many generations the center goes to its moving average (``Options.averaging``).
    gain_decay : float
        Share by which gains of normalisation layers are pulled to one, each generation.
    after_step : callable, optional
        ``after_step(module)`` after each update; what it does to the parameters counts.
    log : callable or path, optional
        Called with a dict of numbers after each generation, ending the run if it returns True; or
        a folder for TensorBoard.
    progress : bool
        Show a progress bar.
    checkpoint, resume, checkpoint_seconds
        File that the training is kept in, written every so many seconds and at the end; whether
        to go on with it. ``Policy.load`` reads the policy of it.
    **bgs_options
        Further arguments of :class:`bgs_opt.BGS`: ``top_k``, ``selection`` ("max" by default,
        which is good where all episodes of a generation have one seed), ``sampler``,
        ``options`` (whose ``common_seeds`` is "generation" by default, or "pair" where there is
        a list of environments), ..., and ``optimizer`` ("sgd" by default), which may also be a
        class of ``torch.optim``. Without a ``learning_rate`` the plain step is 0.7 sigma, and
        without a ``sigma_rule`` both fall as ``InverseDecay(64, 1/16)`` says (16 instead of 64
        where observations are normalised).

    Returns
    -------
    TrainResult

    Raises
    ------
    ArgumentValueError, ArgumentTypeError, CheckpointError
        Before anything is learnt. Errors of the environment and of the policy come as they are.

    Examples
    --------
    >>> result = train("linear", "CartPole-v1", seed=1, target=200.0, generations=20)
    >>> result.evaluation >= 200
    True
    """
    limits = limits_of(generations, episodes, max_time, target)
    path = checkpoint_of(checkpoint, flag("resume", resume))
    held = path if path is not None and path.exists() else None
    real("checkpoint_seconds", checkpoint_seconds, 0)
    options = options_of(bgs_options, train)
    with Interrupts() as interrupts, Ranks() as ranks:
        entropy = ranks.from_first(entropy_of(seed))
        pool = genes_of(genes, entropy, ranks)
        rollout = resolved(rollout or Rollout(), num_directions, pool)
        player = player_of(policy, env, rollout, normalize, recurrent, include, exclude, compile,
                           policy_options, pool, entropy)  # fmt: skip
        player.policy.to(device)
        hooks = Hooks(after_step, logger_of(log), integer("average_every", average_every, 0),
                      gains_of(player, real("gain_decay", gain_decay, 0, 1)))  # fmt: skip
        kept = None if held is None else restore(player, pool, held)
        with Team(player, workers, ranks, timeout=timeout, interrupts=interrupts,
                  retries=integer("retries", retries, 0)) as team:  # fmt: skip
            if kept is None:
                # its arguments are refused before an episode is played
                likely = sigma or options.min_sigma or options.max_sigma or 1.0
                optimizer_of(player, pool, likely, num_directions, entropy, options, bgs_options)
                known = None if pool is None else pool.pool.genes
                state, found = warm_up(team, entropy, sigma, known, options.scale)
            else:
                state, found = kept[1], sigma or kept[0].start_sigma
            opt = optimizer_of(player, pool, found, num_directions, entropy, options, bgs_options)
            training = Training(
                opt, team, evaluation or Evaluation(), hooks, state, player.lanes, pool
            )
            if kept is not None and path is not None:
                resume_run(training, kept[0], kept[2], path, seeded=seed is not None)
            shown = flag("progress", progress) and ranks.rank == 0
            with bar_of(shown, limits, training) as bar:
                reason = run(training, limits, path, checkpoint_seconds, bar)
            return _result(training, reason)


def _result(training: Training, reason: str) -> TrainResult:
    training.settle()
    progress = training.progress
    success, message = MESSAGES[reason]
    names = tuple(progress.rows[0]) if progress.rows else COLUMNS
    return TrainResult(
        policy=training.team.player.policy.eval(), evaluation=progress.best, success=success,
        reason=reason, message=message, generations=training.opt.generation,
        episodes=progress.episodes, steps=progress.steps,
        evaluation_episodes=progress.evaluation_episodes, sigma=training.opt.sigma,
        pool=None if training.genes is None else training.genes.pool,
        history={name: np.array([row[name] for row in progress.rows]) for name in names},
    )  # fmt: skip

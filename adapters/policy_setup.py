"""What train() makes before it starts: the policy that fits, sigma, the optimizer, the hooks."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch

from bgs_opt import BGS, GenePool, InverseDecay, Options
from bgs_opt.config import scale_of
from bgs_opt.errors import ArgumentTypeError, BGSError
from bgs_opt.normalization import RunningMoments
from bgs_opt.protocols import FloatArray
from bgs_opt.streams import entropy_of
from bgs_opt.validation import flag, real, wrong_type, wrong_value

from .gymnasium_environments import named_environment
from .gymnasium_episodes import Rollout
from .policy_genes import GeneRun, Genes
from .policy_module import Policy
from .policy_networks import NETWORKS, network_of
from .policy_player import Block, Player, perturbed
from .policy_team import Ranks, Team
from .policy_training import Progress
from .torch import Names
from .torch_optimizer import TorchOptimizer

__all__ = [
    "DEFAULTS",
    "gains_of",
    "genes_of",
    "logger_of",
    "optimizer_of",
    "player_of",
    "resolved",
    "warm_up",
]

DEFAULTS = {"optimizer": "sgd", "selection": "max"}
"""What the core is given where the caller says nothing."""
OUTPUT_CHANGE = {"plain": 1.0, "normalized": 0.7}
"""Standard deviation over observations of what sigma, where it is found, adds to outputs; -1 .. 1
is the range of a Box. Normalised observations grow as a policy leaves what it knew."""
DECAY = {"plain": InverseDecay(half=64, floor=1 / 16),
         "normalized": InverseDecay(half=16, floor=1 / 16)}  # fmt: skip
"""Of sigma and the step."""
STEP = 0.7
"""Step over sigma."""
WARM_UP = 2
"""Episodes of random actions, by which observations are scaled and sigma is found."""
NUM_DIRECTIONS = 8


def resolved(rollout: Rollout, num_directions: int | None, genes: GeneRun | None) -> Rollout:
    """With a number of lanes that leaves four workers something to do."""
    if rollout.lanes is not None:
        return rollout
    pairs = NUM_DIRECTIONS if num_directions is None else num_directions
    pairs *= 1 if genes is None else genes.options.count
    return dataclasses.replace(rollout, lanes=min(32, max(1, -(-pairs // 2))))


def player_of(
    policy: Any, env: Any, rollout: Rollout, normalize: bool | None, recurrent: bool | None,
    include: Names, exclude: Names, compile: bool, options: Mapping[str, Any] | None,
    genes: GeneRun | None, entropy: int,
) -> Player:  # fmt: skip
    """The policy, made to fit its environment, and what plays it."""
    network = torch.nn.Module() if isinstance(policy, str) else policy
    if not isinstance(network, torch.nn.Module):
        wrong_type("policy", f"a torch.nn.Module or one of {', '.join(NETWORKS)}", policy)
    player = Player(Policy(network, observation_shape=(1,)), env, rollout, include, exclude,
                    flag("compile", compile))  # fmt: skip
    arena = player.arena
    if isinstance(policy, str):
        if arena.actions.size is None:
            raise ArgumentTypeError(
                "policy: expected a torch.nn.Module, as the environment has no action_space; got "
                f"{policy!r}"
            )
        sizes = {"observation_size": math.prod(arena.observation_shape),
                 "outputs": arena.actions.size}  # fmt: skip
        if genes is not None:
            dim = genes.pool.dim
            sizes |= ({"gene_size": dim} if policy == "actor" else
                      {"observation_size": sizes["observation_size"] + dim})  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(entropy & ((1 << 63) - 1))
            network = network_of(policy, {**sizes, **(options or {})})
    elif options:
        wrong_value("policy_options", "None with a module of yours", options)
    if normalize is None:
        normalize = not arena.known_scale
    player.policy = Policy(
        network, observation_space=arena.observation_space, action_space=arena.action_space,
        normalize=flag("normalize", normalize), observation_shape=arena.observation_shape,
        recurrent=recurrent, genes=None if genes is None else genes.pool.genes.shape,
    )  # fmt: skip
    player.policy.env = named_environment(env)
    return player


def warm_up(
    team: Team, entropy: int, sigma: float | None, genes: FloatArray | None, scale: Any
) -> tuple[Progress, float]:
    """Episodes of random actions: what observations are like, and sigma where it is not given."""
    player, progress = team.player, Progress()
    normalizer = player.policy.normalizer
    if normalizer is None and sigma is not None:
        return progress, sigma
    seeds = np.random.SeedSequence(entropy, spawn_key=(1,)).generate_state(WARM_UP).tolist()
    blocks = [Block(None, (seed,), None, observe=True, genes=genes) for seed in seeds]
    played = [result for result in team.play(blocks) if not isinstance(result, str)]
    seen = [result.observations for result in played if result.observations is not None]
    if not seen:
        raise BGSError("the first episodes, of random actions, were all given up")
    progress.episodes = len(played)
    progress.steps = sum(int(result.lengths.sum()) for result in played)
    if normalizer is not None:
        progress.moments = RunningMoments.of_size(math.prod(player.arena.observation_shape))
        for result in played:
            if result.moments is not None:
                progress.moments = progress.moments.merged(result.moments)
    if sigma is None:
        layout = player.flat.layout
        sizes = scale_of(scale, layout.size, np.dtype(np.float64), dict(layout.items()))
        changed = perturbed(player, np.concatenate(seen), progress.moments, seeds[0], genes, sizes)
        sigma = _solved(changed, OUTPUT_CHANGE[_kind(player)])
    return progress, sigma


def _kind(player: Player) -> str:
    return "plain" if player.policy.normalizer is None else "normalized"


def _solved(changed: Callable[[float], float], wanted: float) -> float:
    """The sigma at which ``changed(sigma)``, which grows, is as wanted; to one part in 100."""
    low, high = math.log(1e-6), math.log(1e3)
    while high - low > 0.01:
        middle = (low + high) / 2
        if changed(math.exp(middle)) < wanted:
            low = middle
        else:
            high = middle
    return float(f"{math.exp(high):.3g}")


def genes_of(genes: Any, entropy: int, ranks: Ranks) -> GeneRun | None:
    """The pool of a training, if there is one; the same in every rank."""
    if genes is None:
        return None
    if isinstance(genes, GenePool):
        genes = Genes(genes)
    if not isinstance(genes, Genes):
        wrong_type("genes", "a GenePool, a Genes or None", genes)
    run = GeneRun(genes, entropy_of(np.random.SeedSequence(entropy, spawn_key=(2,))))
    run.pool = GenePool.from_state(ranks.from_first(run.pool.state_dict()))
    return run


def optimizer_of(
    player: Player, genes: GeneRun | None, sigma: float, num_directions: int | None, entropy: int,
    options: Options, given: dict[str, Any],
) -> BGS:  # fmt: skip
    """The core, set up for policies."""
    # one of several environments is drawn by the seed: then not the same one for a generation
    seeds = "pair" if isinstance(player.env, (list, tuple)) else "generation"
    made = {**DEFAULTS, **given, "options": options.resolved(seeds)}
    if genes is not None:
        count = genes.options.count
        made["options"] = dataclasses.replace(
            made["options"], scenarios=count, repeats=count * options.repeats
        )
    rule = made["optimizer"]
    if isinstance(rule, type) or (callable(rule) and not hasattr(rule, "step")):
        made["optimizer"] = TorchOptimizer(rule)
    elif rule == "sgd" and made.get("learning_rate") is None:
        made["learning_rate"] = STEP * real("sigma", sigma, 0, open_low=True)
        if made.get("sigma_rule") is None and made["options"].learning_rate_schedule is None:
            decay = made["sigma_rule"] = DECAY[_kind(player)]
            made["options"] = dataclasses.replace(made["options"], learning_rate_schedule=decay)
    start = player.flat.to_numpy()
    start = start.astype(np.float32) if start.dtype == np.float16 else start
    return BGS(
        start, sigma, maximize=True, seed=entropy,
        num_directions=NUM_DIRECTIONS if num_directions is None else num_directions,
        layout=player.flat.layout, **made,
    )  # fmt: skip


def gains_of(player: Player, decay: float) -> FloatArray | None:
    """How fast each number of the vector is pulled to one: gains of normalisation layers are."""
    if not decay:
        return None
    kinds = (torch.nn.RMSNorm, torch.nn.LayerNorm, torch.nn.GroupNorm,
             torch.nn.modules.batchnorm._BatchNorm)  # fmt: skip
    modules = player.policy.network.named_modules()
    names = {f"{name}.weight".lstrip(".") for name, module in modules if isinstance(module, kinds)}
    layout = player.flat.layout
    rates = np.zeros(layout.size)
    for block in layout.blocks:
        if block.name in names:
            rates[block.where] = decay
    if not rates.any():
        wrong_value("gain_decay", "0, as no gain of a normalisation layer is trained", decay)
    return rates


def logger_of(log: Any) -> Callable[[dict[str, float]], object] | None:
    """What is called with the numbers of each generation; a path is a folder for TensorBoard."""
    if log is None or callable(log):
        made: Callable[[dict[str, float]], object] | None = log
        return made
    if not isinstance(log, (str, os.PathLike)):
        wrong_type("log", "a callable, or the path of a folder for TensorBoard", log)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "log: a folder for TensorBoard needs: pip install tensorboard"
        ) from error
    writer = SummaryWriter(os.fspath(log))

    def write(row: dict[str, float]) -> None:
        for name, value in row.items():
            if name not in ("generation", "episodes"):
                writer.add_scalar(name, value, int(row["episodes"]))
        writer.flush()

    return write

"""Evaluations of one generation, in this process or by the Ray actors of an EvoTorch problem.

An actor is sent the center once and the numbers of its directions; it makes them itself and
sends back fitnesses alone. Which actor does what, and how many there are, changes no bit. An
actor that dies is replaced, and what it had not finished is done again.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import ray
    import torch
    from evotorch import Problem
    from evotorch.core import SolutionBatch
    from ray.exceptions import RayActorError

from bgs_opt.errors import ArgumentValueError, WorkerLostWarning

from .evotorch_best import Best
from .evotorch_sampling import Rows

__all__ = [
    "Call",
    "Evaluated",
    "Sample",
    "evaluate",
    "gather",
    "sample_and_evaluate",
    "seedable",
    "shares",
    "summed_by_actors",
]

_REVIVALS = 2  # of a generation; then it is the evaluations that kill

Call = tuple[str, list[Any], dict[str, Any]]


@dataclass
class Sample:
    """A share of a generation; to an actor's problem it is a search distribution.

    ``first`` and ``count`` are directions. An adaptive population is sampled several times, each
    time ``stride`` directions further on.
    """

    rows: Rows
    generation: int
    first: int
    count: int
    stride: int
    with_center: bool
    repeat: int
    shared: Any  # (center, stdev), perhaps (low, high) as well, or a reference to them
    spans: list[int] = field(default_factory=list)

    @property
    def place(self) -> tuple[int, int, int]:
        """Generation, repeat and, in the population, the first row of those sampled last."""
        return self.generation, self.repeat, 2 * self.spans[-1]

    def to(self, device: Any) -> Sample:
        """Have the center and all else on a device."""
        shared = ray.get(self.shared) if isinstance(self.shared, ray.ObjectRef) else self.shared
        return dataclasses.replace(self, shared=tuple(part.to(device) for part in shared))

    def sample(self, *, out: torch.Tensor, generator: Any = None) -> torch.Tensor:
        """Write the next rows, both ends of each direction and perhaps the center."""
        center, stdev, *box = self.shared
        first = self.first + len(self.spans) * self.stride
        self.rows.perturb(self.generation, first, center, stdev, out, box or None)
        self.spans.append(first)
        return out

    def compute_gradients(
        self, samples: torch.Tensor, fitnesses: torch.Tensor, **options: Any
    ) -> dict[str, Any]:
        """What goes back: fitnesses, and which directions they belong to."""
        return {"evals": fitnesses.cpu(), "spans": self.spans, "device": str(samples.device)}


class Evaluated(NamedTuple):
    """A generation: pairs in the order of their directions."""

    numbers: list[int]  # of the directions
    evals: torch.Tensor  # (2n,)
    center: torch.Tensor | None  # ()
    devices: list[tuple[int, int, int, str]]  # first, stop, actor, device of each share


def evaluate(problem: Problem, batch: SolutionBatch) -> None:
    """Evaluate a batch; actors that die meanwhile are replaced and all is evaluated again."""
    for left in range(_REVIVALS, -1, -1):
        try:
            _evaluate(problem, batch)
        except RayActorError as error:
            _revive(problem, error)
            if not left:
                raise
        else:
            return


def _evaluate(problem: Problem, batch: SolutionBatch) -> None:
    kept = Best(problem)
    try:
        problem.evaluate(batch)
    except AttributeError:
        # EvoTorch looks for a best solution among none that has a fitness
        if torch.isfinite(batch.access_evals()[:, : len(problem.senses)]).any():
            raise
        problem._after_eval_status = dict(problem.after_eval_hook.accumulate_dict(batch))
    kept.without_failed(problem, batch)


def seedable(problem: Problem) -> None:
    """Let actors of a problem with a seed of its own start.

    They call ``problem.seed``, which EvoTorch 0.6.1 does not have: it is ``manual_seed``.
    """
    if problem.has_own_generator and not hasattr(problem, "seed"):
        problem.seed = problem.manual_seed


def _revive(problem: Problem, error: Exception) -> None:
    """Start new actors, with what the main process knows of their counts."""
    warnings.warn(
        f"an actor died and was replaced; its evaluations are made again: {error}",
        WorkerLostWarning,
        stacklevel=2,
    )
    state = problem._make_pickle_data_for_main()
    count = len(problem.actors)
    problem.kill_actors()
    if state:  # totals: only one may go on from them
        problem._remote_states = [state, *({} for _ in range(count - 1))]
    problem._parallelize()


def gather(problem: Problem, calls: list[Call]) -> list[tuple[Any, int]]:
    """Results of the calls, and which actor made each; the next call goes to whoever is idle."""
    results: dict[int, tuple[Any, int]] = {}
    revivals = 0
    while len(results) < len(calls):
        todo = deque(n for n in range(len(calls)) if n not in results)
        actors = problem.actors
        running: dict[Any, tuple[int, int]] = {}
        idle = deque(range(len(actors)))
        try:
            while todo or running:
                while todo and idle:
                    number, actor = todo.popleft(), idle.popleft()
                    running[actors[actor].call.remote(*calls[number])] = number, actor
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                number, actor = running.pop(done)
                results[number] = ray.get(done), actor
                idle.append(actor)
        except RayActorError as error:
            revivals += 1
            _revive(problem, error)
            if revivals > _REVIVALS:
                raise
            problem._sync_before()
        except BaseException:
            if running:  # nobody is busy with what nobody waits for
                ray.wait(list(running), num_returns=len(running))
            raise
    return [results[number] for number in range(len(calls))]


def shares(problem: Problem, directions: int) -> list[tuple[int, int]]:
    """First and number of directions of each task; pairs are never parted."""
    if problem._subbatch_size is not None:
        size = max(1, problem._subbatch_size // 2)
        return [(at, min(size, directions - at)) for at in range(0, directions, size)]
    pieces = problem._num_subbatches or len(problem.actors)
    pieces = max(1, min(pieces, directions))
    edges = [directions * piece // pieces for piece in range(pieces + 1)]
    return [(low, high - low) for low, high in itertools.pairwise(edges)]


def sample_and_evaluate(
    problem: Problem, whole: Sample, *, obj_index: int, repeats: int,
    num_interactions: int | None, popsize_max: int | None,
) -> Evaluated:  # fmt: skip
    """Have a generation evaluated by the actors.

    Parameters
    ----------
    problem : Problem
    whole : Sample
        All directions of the generation.
    obj_index, repeats : int
    num_interactions, popsize_max : int, optional
        As in EvoTorch: each actor goes on until it has its share of the interactions.
    """
    if popsize_max is not None and num_interactions is None:
        raise ArgumentValueError(
            f"popsize_max: expected None without num_interactions; got {popsize_max}"
        )
    problem._parallelize()
    problem.before_grad_hook()
    split = shares(problem, whole.count)
    shared, calls = ray.put(whole.shared), []
    for repeat in range(repeats):
        for first, count in split:
            last = first + count == whole.count
            part = Sample(
                whole.rows, whole.generation, first, count, whole.count,
                whole.with_center and last, repeat, shared,
            )  # fmt: skip
            options: dict[str, int | None] = {"obj_index": obj_index}
            for name, total in (("num_interactions", num_interactions),
                                ("popsize_max", popsize_max)):  # fmt: skip
                options[name] = None if total is None else -(-total * count // whole.count)
            call = [part, 2 * count + part.with_center]
            calls.append(("_sample_and_compute_gradients", call, options))
    problem._sync_before()
    gathered = gather(problem, calls)
    problem._sync_after()
    status = problem.after_grad_hook.accumulate_dict([result for result, _ in gathered])
    for name in ("interaction_count", "episode_count"):  # EvoTorch forgets these here
        if hasattr(problem, name):
            status[f"total_{name}"] = getattr(problem, name)
    problem._after_eval_status = status
    return _merged([(*found, split[n % len(split)][1]) for n, found in enumerate(gathered)])


def _merged(gathered: list[tuple[dict[str, Any], int, int]]) -> Evaluated:
    """Mean over the repeats of what all tasks found, in the order of the directions."""
    found: dict[int, list[torch.Tensor]] = {}
    centers, devices = [], []
    for result, actor, count in gathered:
        sent = result["gradients"]
        spans = sent["spans"]
        for first, evals in zip(spans, sent["evals"].chunk(len(spans)), strict=True):
            for place in range(count):
                found.setdefault(first + place, []).append(evals[2 * place : 2 * place + 2])
            centers.append(evals[2 * count :])
            devices.append((first, first + count, actor, sent["device"]))
    index = sorted(found)
    repeats = {len(found[number]) for number in index}
    if len(repeats) == 1:
        means = torch.stack([torch.stack(found[number]) for number in index]).mean(1)
    else:  # adaptive populations end where they end
        means = torch.stack([torch.stack(found[number]).mean(0) for number in index])
    center = torch.cat(centers)
    return Evaluated(index, means.reshape(-1), center.mean() if len(center) else None, devices)


def weighted_rows(
    total: torch.Tensor, rows: Rows, generation: int, index: list[int], weights: list[float],
    device: str,
) -> torch.Tensor:  # fmt: skip
    """Add an actor's directions to the sum of those before it, on the actor's own device."""
    return rows.weighted_sum(generation, index, weights, total.to(device)).cpu()


def summed_by_actors(
    problem: Problem, rows: Rows, generation: int, evaluated: Evaluated, weights: list[float],
    total: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """``sum_i w_i e_i`` where only the actor that made a direction can make it again.

    Random numbers differ from device to device. The sum goes from actor to actor in the order
    of the directions, so that its bits do not depend on who had which.
    """
    weight_of = dict(zip(evaluated.numbers, weights, strict=True))
    for actor in problem.actors:
        actor.set.remote("_bgs_opt_weighted_rows", weighted_rows)
    makers = {first: (stop, actor, device) for first, stop, actor, device in evaluated.devices}
    for first, (stop, actor, device) in sorted(makers.items()):
        kept = [number for number in range(first, stop) if weight_of.get(number)]
        if kept:
            arguments = [total, rows, generation, kept, [weight_of[n] for n in kept], device]
            call = problem.actors[actor].call.remote("_bgs_opt_weighted_rows", arguments, {})
            total = ray.get(call)
    return total

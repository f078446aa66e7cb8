"""The best and worst solutions of a run, where whole generations have failed."""

from __future__ import annotations

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.evotorch", extra="evotorch"):
    import torch
    from evotorch import Problem
    from evotorch.core import SolutionBatch

__all__ = ["Best"]


class Best:
    """EvoTorch's best and worst solutions of a run so far, as they were.

    It takes an infinite fitness for the best where a whole batch has failed.
    """

    def __init__(self, problem: Problem) -> None:
        self.found = {
            name: None if solutions is None else (list(solutions), evals.clone())
            for name, solutions, evals in (
                ("best", problem._best, problem._best_evals),
                ("worst", problem._worst, problem._worst_evals),
            )
        }

    def without_failed(self, problem: Problem, batch: SolutionBatch) -> None:
        """Put back what was there for objectives in which no fitness of the batch is finite."""
        if problem._best is None:
            return  # it keeps none
        finite = torch.isfinite(batch.access_evals()[:, : len(problem.senses)]).any(dim=0)
        if finite.all():
            return
        for number in (~finite).nonzero().flatten().tolist():
            for name, before in self.found.items():
                solutions, evals = getattr(problem, f"_{name}"), getattr(problem, f"_{name}_evals")
                high = (problem.senses[number] == "max") != (name == "best")
                solutions[number] = None if before is None else before[0][number]
                evals[number] = (
                    (torch.inf if high else -torch.inf) if before is None else before[1][number]
                )
        if len(problem.senses) > 1:
            return  # the status has these lists themselves
        status = problem._after_eval_status
        for name in self.found:
            (solution,) = getattr(problem, f"_{name}")
            if solution is None:
                status.pop(name, None)
                status.pop(f"{name}_eval", None)
            else:
                status |= {name: solution, f"{name}_eval": float(solution.evals[0])}

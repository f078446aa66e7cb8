"""Who plays the blocks: this process, worker processes, an executor, or the ranks of a torch run.

Whoever it is, every process ends with the same episodes in the same order, so that all of them
can do the same update: only numbers of the size of the population cross the wire.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import torch.distributed as dist

from bgs_opt.errors import ArgumentTypeError
from bgs_opt.evaluation import LAST_SECONDS, Evaluator, Failure, Job, Stuck
from bgs_opt.executors import evaluator_for
from bgs_opt.interrupts import Interrupts
from bgs_opt.raised import Raised

from .gymnasium_episodes import Episodes
from .policy_player import Block, Player

__all__ = ["Ranks", "Team"]

_LOOK_SECONDS = 1.0
Result = Episodes | str
"""Episodes of a block; or why it was given up."""


class Ranks:
    """The processes of ``torchrun`` or ``accelerate launch``, or this one alone.

    A process group that exists is used; else, where the environment names several processes, one
    is opened by gloo and closed at the end.
    """

    def __init__(self) -> None:
        self.opened = False
        if dist.is_available():
            if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
                dist.init_process_group("gloo")
                self.opened = True
            if dist.is_initialized():
                self.rank, self.count = dist.get_rank(), dist.get_world_size()
                return
        self.rank, self.count = 0, 1

    def gathered(self, mine: Any) -> list[Any]:
        """What each rank brings, in their order."""
        if self.count == 1:
            return [mine]
        every: list[Any] = [None] * self.count
        dist.all_gather_object(every, mine)
        return every

    def from_first(self, value: Any) -> Any:
        """What the first rank says."""
        return self.gathered(value)[0]

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        if self.opened:
            dist.destroy_process_group()


class Team:
    """Plays blocks; see :func:`bgs_opt.adapters.policy.train` for the arguments."""

    def __init__(
        self,
        player: Player,
        workers: int | Executor,
        ranks: Ranks,
        *,
        timeout: float | None,
        retries: int,
        interrupts: Interrupts,
    ) -> None:
        self.player, self._interrupts = player, interrupts
        elsewhere = isinstance(workers, Executor) or workers > 1 or timeout is not None
        if elsewhere:
            _check_pickles(player)
        self.ranks = ranks
        self._evaluator: Evaluator = evaluator_for(
            player,  # type: ignore[arg-type]
            workers, vectorized=False, timeout=timeout, retries=retries,
        )  # fmt: skip

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        self._evaluator.close()
        self.player.close()

    def play(
        self, blocks: Sequence[Block], known: dict[int, Episodes] | None = None
    ) -> list[Result]:
        """What came of each block; the same in every rank.

        Blocks in ``known`` are not played; those that were finished here join it, whether or not
        another one raises.
        """
        rank, count = self.ranks.rank, self.ranks.count
        known = {} if known is None else known
        every: dict[int, Result] = {**known}
        done: dict[int, Result] = {}
        todo = {n: b for n, b in enumerate(blocks) if n % count == rank and n not in known}
        mine: Any = done
        try:
            self._play_here(todo, done)
        except BaseException as error:
            done |= {o.id: o.value for o in self._evaluator.drain(LAST_SECONDS)}  # type: ignore[misc]
            if count == 1 or not isinstance(error, Exception):
                raise
            mine = Raised.of(error)
        finally:
            known |= {n: result for n, result in done.items() if not isinstance(result, str)}
        for share in self.ranks.gathered(mine):
            if isinstance(share, Raised):
                raise share.error()
            every.update(share)
        return [every[number] for number in range(len(blocks))]

    def _play_here(self, blocks: dict[int, Block], done: dict[int, Result]) -> None:
        waiting = deque(blocks.items())
        while len(done) < len(blocks):
            jobs: list[Job] = []
            while waiting and len(jobs) < self._evaluator.free():
                number, block = waiting.popleft()
                jobs.append(Job(number, block, 0))  # type: ignore[arg-type]
            self._evaluator.submit(jobs)
            with self._interrupts.allowed():
                self._evaluator.wait(_LOOK_SECONDS)
            try:
                outcomes: list[Any] = self._evaluator.collect()
            except Failure as failure:
                raise failure.error from failure.error.__cause__
            except Stuck:
                for number in set(blocks) - set(done):
                    done[number] = "nothing goes on in the executor"
                break
            for outcome in outcomes:
                done[outcome.id] = outcome.lost if outcome.value is None else outcome.value


def _check_pickles(player: Player) -> None:
    for name, part in (("env", player.env), ("policy", player.policy)):
        try:
            pickle.dumps(part)
        except Exception as error:
            raise ArgumentTypeError(
                f"{name}: expected what can be sent to worker processes (a registered name, or a "
                f"class or function at the top level of a module); it does not pickle ({error})"
            ) from error

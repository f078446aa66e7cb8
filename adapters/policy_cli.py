"""``bgs-opt train ENV_ID`` and ``bgs-opt play CHECKPOINT``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bgs_opt.extras import needs

with needs("bgs_opt.adapters.policy", extra="policy"):
    import gymnasium

from bgs_opt import console
from bgs_opt.errors import ArgumentValueError
from bgs_opt.flags import named_values
from bgs_opt.validation import integer

from .gymnasium_environments import Environment
from .policy import Policy, TrainResult, train
from .policy_arguments import check, check_video, flagged, keywords, parse
from .policy_pictures import film, plot_training

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Run ``train`` or ``play``; return the exit code as :func:`bgs_opt.cli.main` does."""
    try:
        args = parse(words)
    except SystemExit:
        return 0  # after --help
    except ArgumentValueError as error:
        return console.fail(*console.explained(error, flagged))
    try:
        return (_train if args.what == "train" else _play)(args)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if args.traceback:
            traceback.print_exception(error)
        if isinstance(error, (gymnasium.error.Error, ImportError)):
            return console.fail(2, str(error))
        return console.fail(*console.explained(error, flagged))


def _spec(env: str, options: dict[str, Any]) -> Any:
    """A registered environment with its arguments."""
    spec = gymnasium.spec(env)
    return dataclasses.replace(spec, kwargs={**spec.kwargs, **options})


def _train(args: argparse.Namespace) -> int:
    check(args)
    spec = _spec(args.env, named_values("--env-option", args.env_option))
    policy = args.policy or "linear"
    with console.running(args) as bar:
        with console.same_folder():
            result = train(policy, spec, progress=bar, **keywords(args))
        if args.output:
            result.policy.save(args.output)
        if args.plot:
            plot_training(result.history, args.plot, f"{args.env}, {policy} policy")
        if args.video:
            _film(result.policy, spec, args)
    _report(args, result)
    if result.success:
        return 0
    how = (f"the same command with --resume goes on from {args.checkpoint}" if args.checkpoint
           else "with --checkpoint FILE the training could be resumed")  # fmt: skip
    return console.fail(1, f"{result.message}; {how}")


def _film(policy: Policy, spec: Any, args: argparse.Namespace) -> None:
    with contextlib.closing(gymnasium.make(spec, render_mode="rgb_array")) as env:
        film(policy, env, args.video, seed=getattr(args, "seed", None) or 0,
             max_steps=args.max_steps or 1000)  # fmt: skip


def _report(args: argparse.Namespace, result: TrainResult) -> None:
    files = {name: getattr(args, name) for name in ("checkpoint", "output", "plot", "video")}
    facts = {
        "status": result.message,
        "evaluation": result.evaluation,
        "generations": result.generations,
        "episodes": result.episodes,
        "steps": result.steps,
        "sigma": result.sigma,
    }
    if args.json:
        facts |= {"success": result.success, "reason": result.reason, **files}
        print(json.dumps(console.plain(facts), allow_nan=False))
    elif not args.quiet:
        console.table({**facts, **{name: path for name, path in files.items() if path}})


# ---- play


def _play(args: argparse.Namespace) -> int:
    if not Path(args.checkpoint).is_file():
        raise ArgumentValueError(
            f"FILE: expected what train --checkpoint or --output wrote; got {args.checkpoint!r}"
        )
    check_video(args.video)
    policy = Policy.load(args.checkpoint)
    if args.gene is not None:
        if policy.genes is None:
            raise ArgumentValueError(f"--gene: expected a policy with genes; {args.checkpoint} "
                                     "has none")  # fmt: skip
        policy.hold(policy.genes, integer("--gene", args.gene, 0, len(policy.genes) - 1))
    options = named_values("--env-option", args.env_option)
    if args.env is None:
        if policy.env is None:
            raise ArgumentValueError("--env: expected the environment, as the file names none")
        name, known = policy.env["id"], policy.env["kwargs"]
        if ":" in name:  # names a module to import, which a file must not
            raise ArgumentValueError(f"--env: expected it, as the file names {name!r}")
        spec = _spec(name, {**known, **options})
    else:
        spec = _spec(args.env, options)
    returns, lengths = [], []
    with contextlib.closing(gymnasium.make(spec)) as env:
        environment = Environment(env)
        for number in range(args.episodes):
            policy.reset()
            observation, total, step, over = environment.reset(args.seed + number), 0.0, 0, False
            while not over and step != args.max_steps:
                observation, reward, over = environment.step(policy(observation))
                total, step = total + reward, step + 1
            returns.append(total)
            lengths.append(step)
    if args.video:
        _film(policy, spec, args)
    facts = {
        "mean return": float(np.mean(returns)),
        "deviation": float(np.std(returns)),
        "worst": min(returns),
        "best": max(returns),
        "mean length": float(np.mean(lengths)),
        "episodes": args.episodes,
    }
    if args.json:
        print(json.dumps(console.plain({**facts, "returns": returns, "video": args.video})))
    else:
        console.table({**facts, **({"video": args.video} if args.video else {})})
    return 0

"""The words of ``bgs-opt train`` and ``bgs-opt play``, and what they mean as arguments."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bgs_opt import GenePool, flags
from bgs_opt.console import check_picture
from bgs_opt.errors import ArgumentValueError
from bgs_opt.flags import given_of, named_values, whole

from .gymnasium_episodes import Rollout
from .policy_genes import Genes
from .policy_networks import NETWORKS
from .policy_training import Evaluation

__all__ = ["check", "check_video", "flagged", "keywords", "parse"]

# What train() or Rollout takes has its name, but for _RENAMED.
_TRAIN: flags.Table = (
    ("--env-option", str, "NAME=VALUE", "argument of the environment; may be repeated"),
    ("--policy", str, "KIND", f"{', '.join(NETWORKS)} (default: linear)"),
    ("--policy-option", str, "NAME=VALUE", "argument of the policy, as hidden=[64,64] of mlp or "
     "memory=True of actor; may be repeated"),
    ("--generations", whole, "N", "updates (default: 100, where nothing else ends the training)"),
    ("--episodes", whole, "N", "training episodes"),
    ("--max-time", float, "S", "seconds"),
    ("--target", float, "V", "stop when an evaluation has this mean return"),
    ("--directions", whole, "N", "pairs of episodes in a generation (default: 8)"),
    ("--top-k", whole, "K", "directions that are kept (default: half of them)"),
    ("--sigma", float, "S", "size of the perturbations (default: found)"),
    ("--learning-rate", float, "R", "step size (default: 0.7 sigma)"),
    ("--optimizer", str, "NAME", "sgd (default), clipup or adam"),
    ("--selection", str, "KEY", "difference or max"),
    ("--repeats", whole, "N", "episodes of each end of a pair"),
    *flags.FURTHER,
    ("--genes", whole, "N", "latent genes that evolve, on each island (default: none)"),
    ("--islands", whole, "N", "of genes (default: 1)"),
    ("--gene-size", whole, "D", "numbers of a gene (default: 8)"),
    ("--gene-option", str, "NAME=VALUE", "any other argument of GenePool or Genes, as share=0.5; "
     "may be repeated"),
    ("--seed", whole, "N", "the same seed gives the same policy, for any number of workers"),
    ("--normalize", None, "", "normalise observations (default: where their size is not known)"),
    ("--no-normalize", None, "", "take observations as they are"),
    ("--max-steps", whole, "N", "longest episode"),
    ("--reward-shift", float, "V", "subtracted from each reward in training"),
    ("--sample-actions", None, "", "draw actions in training"),
    ("--lanes", whole, "N", "episodes played in step (default: a quarter of a generation)"),
    ("--workers", whole, "N", "processes"),
    ("--timeout", float, "S", "seconds that the episodes of a worker's turn may take"),
    ("--device", str, "NAME", "where the policy acts, as cuda"),
    ("--compile", None, "", "compile the policy by torch.compile"),
    ("--evaluate-every", whole, "N", "generations between evaluations (default: 4)"),
    ("--evaluation-episodes", whole, "N", "episodes of an evaluation (default: 10)"),
    ("--checkpoint", str, "FILE", "file that the training is kept in"),
    ("--checkpoint-seconds", float, "S", "how often it is written (default: 30)"),
    ("--resume", None, "", "go on with the training in the checkpoint if it exists"),
    ("--output", str, "FILE", "write the policy: .safetensors or .pt"),
    ("--plot", str, "PICTURE", "draw the learning curve: .png, .pdf, .svg"),
    ("--video", str, "FILE.gif", "film an episode of the policy"),
    ("--log", str, "FOLDER", "for TensorBoard"),
    *flags.SHOWN,
)  # fmt: skip
_PASSED = (
    "generations", "episodes", "max_time", "target", "top_k", "sigma", "learning_rate",
    "optimizer", "selection", "seed", "workers", "timeout", "device", "compile", "checkpoint",
    "checkpoint_seconds", "resume", "log",
)  # fmt: skip
_ROLLOUT = ("max_steps", "reward_shift", "sample_actions", "lanes")
_RENAMED = {"num_directions": "directions", "every": "evaluate_every",
            "genes_per_island": "genes", "dim": "gene_size"}  # fmt: skip
GENE_SIZE = 8


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words after ``bgs-opt``; see :func:`bgs_opt.arguments.parse`."""
    parser = flags.Parser(prog="bgs-opt")
    commands = parser.add_subparsers(dest="what", required=True)
    run = commands.add_parser("train", allow_abbrev=False)
    run.add_argument("env", metavar="ENV_ID", help="registered name, such as CartPole-v1")
    flags.add_options(run, _TRAIN)
    show = commands.add_parser("play", allow_abbrev=False)
    show.add_argument("checkpoint", metavar="FILE", help="of train --checkpoint or --output")
    show.add_argument("--env", metavar="ENV_ID", help="default: that it was trained in")
    show.add_argument("--env-option", metavar="NAME=VALUE", action="append")
    show.add_argument("--episodes", type=whole, metavar="N", default=10, help="default: 10")
    show.add_argument("--seed", type=whole, metavar="N", default=0, help="of the first episode")
    show.add_argument("--gene", type=whole, metavar="N", help="default: the fittest")
    show.add_argument("--max-steps", type=whole, metavar="N", help="longest episode")
    show.add_argument("--video", metavar="FILE.gif", help="film the first episode")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    show.add_argument("--traceback", action="store_true", help="show where an error came from")
    return parser.parse_args(list(words))


def flagged(text: str) -> str:
    """A message about arguments, with the names that they have on the command line."""
    return flags.flagged(text, _TRAIN, _RENAMED)


def keywords(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of train() that were given."""
    given = given_of(args, _PASSED)
    given["rollout"] = Rollout(**given_of(args, _ROLLOUT))
    normalize = flags.switched(args, "normalize", "no_normalize")
    if normalize is not None:
        given["normalize"] = normalize
    counts = {"every": args.evaluate_every, "episodes": args.evaluation_episodes}
    given["evaluation"] = Evaluation(**{n: c for n, c in counts.items() if c is not None})
    if args.directions is not None:
        given["num_directions"] = args.directions
    further = named_values("--option", args.option) | given_of(args, ["repeats"])
    given |= flags.with_options(further)
    given["genes"] = _genes(args)
    given["policy_options"] = named_values("--policy-option", args.policy_option)
    return given


def _genes(args: argparse.Namespace) -> Genes | None:
    """The pool that is asked for, with the seed of the run."""
    if args.genes is None:
        for name in ("islands", "gene_size", "gene_option"):
            if getattr(args, name) is not None:
                raise ArgumentValueError(f"--{name.replace('_', '-')}: expected it with --genes")
        return None
    of_genes = {field.name for field in dataclasses.fields(Genes)} - {"pool", "fitness"}
    of_pool = set(inspect.signature(GenePool).parameters) - {
        "dim", "genes_per_island", "islands", "seed"
    }  # fmt: skip
    named = named_values("--gene-option", args.gene_option, sorted(of_genes | of_pool))
    pool = GenePool(
        args.gene_size or GENE_SIZE, args.genes, args.islands or 1, seed=args.seed,
        **{name: value for name, value in named.items() if name in of_pool},
    )  # fmt: skip
    return Genes(pool, **{name: value for name, value in named.items() if name in of_genes})


def check(args: argparse.Namespace) -> None:
    """Find, before hours of work, what would stop it after them."""
    if args.policy is not None and args.policy not in NETWORKS:
        raise ArgumentValueError(
            f"--policy: expected one of {', '.join(NETWORKS)}; got {args.policy!r}"
        )
    if args.plot:
        check_picture("--plot", args.plot)
    check_video(args.video)
    flags.check_files(args)


def check_video(path: str | None) -> None:
    """See that a film can be written there."""
    if path is not None and not (path.endswith(".gif") and Path(path).absolute().parent.is_dir()):
        raise ArgumentValueError(f"--video: expected a .gif in a folder that exists; got {path!r}")

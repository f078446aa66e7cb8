"""Files that were changed at random or on purpose, and what each loader makes of them.

A case is made by (loader, seed) alone. Half are changed blindly: bytes flipped, set, cut out,
put in twice, cut off, exchanged with those of another file. Half are changed where it hurts, with
checksums made right again: members of archives, heads of arrays, numbers and texts of headers,
pickles with another program in them.

An audit hook watches while a file is read: whatever runs code, starts a program, opens another
file or imports a module is noted.
"""

import contextlib
import copy
import functools
import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import tempfile
import threading
import tracemalloc
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from bgs_opt import BGS, GenePool, Options, archive, cli
from bgs_opt.errors import ArgumentValueError, CheckpointError
from tests.helpers import contents, play

HUGE = (10**15, 2**31, 2**63, -(2**63), 10**400, 1 << 128)
ODD = (
    None, True, False, 0, 1, -1, 2, 3, 7, 0.0, -0.0, 0.5, -1.5, 1e308, 5e-324, "", "x",
    "__class__",
    [], {}, [[]], {"!": "array", "name": "a0"}, {"!": "tuple", "items": []}, {"!": "os.system"},
    {"!": "State", "items": {}}, {"!": "Options", "items": {}}, {"!": "dict", "items": {}},
    {"!": "QR", "items": {}}, {"!": "LinearDecay", "items": {"generations": 3}},
    float("nan"), float("inf"), -float("inf"), "9" * 5000, [0] * 100, {"kind": "Box"}, *HUGE,
)  # fmt: skip


def odd(rng):
    """One of them, as a copy: the next change may change it."""
    return copy.deepcopy(rng.choice(ODD))


SPARE = 400 << 20
"""Bytes of address space that a loader may take beyond what the process has."""


# ---- what runs while a file is read


class Watch:
    """Notes what an audit hook hears between ``begin`` and ``end`` in this thread."""

    quiet = frozenset({
        "open", "os.listdir", "object.__getattr__", "object.__setattr__", "object.__delattr__",
        "sys._getframe", "array.__new__", "os.scandir", "code.__new__", "gc.get_objects",
        "ctypes.dlsym", "tempfile.mkstemp", "os.remove", "os.rename", "glob.glob", "os.chmod",
        "pathlib.Path.glob", "marshal.loads", "builtins.id", "sys.unraisablehook", "os.putenv",
        "os.unsetenv", "time.sleep",
    })  # fmt: skip

    def __init__(self):
        self.thread, self.heard, self.allowed = None, [], ""
        sys.addaudithook(self.hear)

    def hear(self, event, args):
        if self.thread != threading.get_ident():
            return
        if event == "open":
            path, mode = str(args[0]), str(args[1])
            if not path.startswith(self.allowed) and not path.startswith("/proc/"):
                self.heard.append((event, path, mode))
        elif event not in self.quiet and not event.startswith("cpython."):
            self.heard.append((event, *map(repr, args[:2])))

    @contextlib.contextmanager
    def within(self, folder):
        self.heard, self.allowed, self.thread = [], str(folder), threading.get_ident()
        try:
            yield
        finally:
            self.thread = None


@functools.cache
def watch():
    """The hook: it stays for the life of the process."""
    return Watch()


# ---- good files


def runs():
    """Runs with every kind of state in them."""
    every = [
        BGS(np.linspace(-1, 1, 6), 0.2, num_directions=4, optimizer="adam", bounds=(-2, 2), seed=1,
            options=Options(averaging=0.9, center_evaluations=1, scale=2.0, late="use")),
        BGS(np.ones(5), 0.1, optimizer="auto", budget=500, seed=2),
        BGS(np.ones(8), 0.1, sampler="factorised", layout={"w": (2, 3), "b": (2,)}, seed=3),
        BGS(np.ones(4, np.float32), 0.1, sampler="gaussian", maximize=True, seed=4),
    ]  # fmt: skip
    for opt in every:
        play(opt, 3)
        candidates = opt.ask()
        opt.tell(candidates[:3], [3.0, 2.0, 1.0])
    return every


def bytes_of(save, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"good{suffix}")
        save(path)
        return path.read_bytes()


@functools.cache
def good_runs():
    return [bytes_of(opt.save, ".npz") for opt in runs()]


@functools.cache
def good_pools():
    pools = [GenePool(3, 6, islands=2, seed=1), GenePool(2, 4, seed=2)]
    for pool in pools:
        pool.evolve(np.linspace(0, 1, len(pool)))
    return [bytes_of(pool.save, ".npz") for pool in pools]


def policies():
    from gymnasium import spaces

    from bgs_opt.adapters.policy import MLP, Actor, Linear, Policy

    box = spaces.Box(-1.0, 1.0, (3,), np.float32)
    two = spaces.Box(-1.0, 1.0, (2,), np.float32)
    return [
        Policy(MLP(3, 2, hidden=(4,)), observation_space=box, action_space=two, normalize=True),
        Policy(Actor(3, 2, width=4, memory=True, gene_size=2), observation_space=box,
               action_space=spaces.Discrete(2), genes=(3, 2)),
        Policy(Linear(3, 4), observation_space=box, action_space=spaces.MultiDiscrete([2, 2])),
    ]  # fmt: skip


@functools.cache
def good_policies(suffix):
    return [bytes_of(policy.save, suffix) for policy in policies()]


TRAINING = {"seed": 1, "generations": 1, "num_directions": 2, "sigma": 0.1}


def train(path, *, resume, kind):
    """A training of one generation; a second call only reads its file."""
    from bgs_opt import GenePool
    from bgs_opt.adapters import policy
    from tests.adapters.policies import Unscaled

    genes = policy.Genes(GenePool(2, 3, seed=3), share=0.5) if kind else None
    return policy.train(
        "actor" if kind else "linear", Unscaled, checkpoint=path, resume=resume, genes=genes,
        evaluation=policy.Evaluation(episodes=1), checkpoint_seconds=1e6, **TRAINING,
    )  # fmt: skip


@functools.cache
def good_trainings():
    import torch

    torch.set_num_threads(1)
    return [bytes_of(lambda p, k=k: train(p, resume=False, kind=k), ".pt") for k in (0, 1)]


# ---- loaders; each returns after it has used what was loaded


def use_run(opt):
    """Ask and tell, and show everything: a run that is believed has to work."""
    contents(opt)
    opt.counts, opt.history, opt.stop(), repr(opt), opt.recommendation
    pending = opt.pending
    if len(pending):
        opt.tell(pending, np.arange(float(len(pending))))
    if opt.needed < 10_000 and opt._state.skipped < opt._config.options.max_skipped:
        candidates = opt.ask()
        if len(candidates):
            opt.tell(candidates, np.arange(float(len(candidates))))
    opt.__getstate__()


def load_run(path, number):
    return BGS.load(path)


def inspect(path, number):
    """Exit code and words of the command; nothing but an error of the file's."""
    words = ["--json"] if number % 2 else []
    with contextlib.redirect_stdout(io.StringIO()), \
            contextlib.redirect_stderr(io.StringIO()) as said:  # fmt: skip
        code = cli.main(["inspect", str(path), *words])
    if code not in (0, 1) or "--traceback" in said.getvalue():
        raise AssertionError(f"exit code {code}: {said.getvalue()}")
    if code:
        raise CheckpointError(said.getvalue())


def load_pool(path, number):
    return GenePool.load(path)


def use_pool(pool):
    GenePool.from_state(pool.state_dict())
    pool.evolve(np.arange(float(len(pool))))
    pool.diversity()


def load_state(path, number):
    """A dict that came from somewhere: its own keys and values, changed."""
    rng = random.Random(number)
    pool = GenePool(3, 6, islands=2, seed=1)
    state = pool.state_dict()
    for _ in range(rng.choice((0, 1, 1, 2))):
        key = rng.choice(list(state))
        if isinstance(state[key], np.ndarray):
            state[key] = rng.choice([
                state[key][:-1], state[key] * np.nan, state[key].astype(np.float32),
                state[key].astype(object), np.zeros(0), None, state[key][::-1], "array",
            ])  # fmt: skip
        else:
            state[key] = odd(rng)
        if rng.random() < 0.1:
            state[rng.choice(("more", 3))] = state.pop(key)
    return GenePool.from_state(state)


def load_policy(path, number):
    from bgs_opt.adapters.policy import Policy

    return Policy.load(path)


def use_policy(policy):
    from gymnasium import spaces

    json.dumps(policy.description())
    space = policy.observation_space
    if space is None or isinstance(space, spaces.Box):
        policy(np.zeros(policy.observation_shape))


def resume_training(path, number):
    return train(path, resume=True, kind=number % 2)


def nothing(loaded):
    pass


LOADERS = {
    "BGS.load": (load_run, use_run, good_runs, ".npz", 6),
    "bgs-opt inspect": (inspect, nothing, good_runs, ".npz", 2),
    "GenePool.load": (load_pool, use_pool, good_pools, ".npz", 3),
    "GenePool.from_state": (load_state, use_pool, lambda: [b""], ".npz", 2),
    "Policy.load .pt": (load_policy, use_policy, lambda: good_policies(".pt"), ".pt", 4),
    "Policy.load .safetensors": (load_policy, use_policy, lambda: good_policies(".safetensors"),
                                 ".safetensors", 3),
    "train(resume=True)": (resume_training, nothing, good_trainings, ".pt", 1),
}  # fmt: skip
"""Loader, use, good files, suffix, share of the cases."""


# ---- blind changes


def blind(data, rng, others):
    """Bytes flipped, set, cut out, doubled, cut off, spliced; one to four times."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, size = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 8, 64, 1000))
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + size] = rng.randbytes(min(size, 8))
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            del out[at:]
        elif kind == 5:
            other = rng.choice(others)
            begin = rng.randrange(len(other))
            out[at : at + size] = other[begin : begin + size]
        else:
            limit = rng.choice((b"\0", b"\xff", b"\x7f"))
            out[at : at + min(size, 8)] = limit * min(size, 8)
    return bytes(out)


# ---- changes of JSON


def places(tree, path=()):
    """Paths to all parts of a tree that are not too deep."""
    yield path
    if len(path) < 100:
        numbered = enumerate(tree) if isinstance(tree, list) else ()
        for key, item in tree.items() if isinstance(tree, dict) else numbered:
            yield from places(item, (*path, key))


def edited(tree, rng):
    """A tree with one to three parts changed, removed, moved or nested."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(list(places(tree)))
        if not path:
            continue
        owner = tree
        for key in path[:-1]:
            owner = owner[key]
        kind = rng.random()
        if kind < 0.6:
            owner[path[-1]] = odd(rng)
        elif kind < 0.7 and isinstance(owner[path[-1]], (int, float)):
            owner[path[-1]] = owner[path[-1]] * rng.choice((-1, 2, 1000, 10**12)) + rng.choice(
                (0, 1)
            )
        elif kind < 0.8:
            del owner[path[-1]]
        elif kind < 0.85:
            for _ in range(rng.choice((2, 50, 250))):
                owner[path[-1]] = [owner[path[-1]]]
        elif isinstance(owner, dict):
            owner[rng.choice(("more", "!", "name", "items", "dim"))] = odd(rng)
        else:
            owner.append(owner[0])
    return tree


def dumped(tree):
    with contextlib.suppress(RecursionError, ValueError):
        return json.dumps(tree)
    return "[" * 20_000


# ---- changes of archives of arrays


def entries_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {info.filename: opened.read(info) for info in opened.infolist()}


def zipped(entries, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", compression) as made:
        warnings.simplefilter("ignore")
        for name, data in entries:
            made.writestr(name, data)
    return out.getvalue()


class Payload:
    """Unpickling it runs a program."""

    def __reduce__(self):
        return os.system, ("touch /nonexistent/run",)


def npy(array):
    out = io.BytesIO()
    np.lib.format.write_array(out, array)
    return out.getvalue()


def claiming(rng):
    """A .npy entry that claims a shape and a type, with a few numbers behind it."""
    shape = rng.choice((f"({10**15},)", "(1, 2, 3)", f"({2**32}, {2**32})", "(-1,)", "()",
                        f"(0, {10**15})", "(1,)", "('a',)", "(" * 200, "-" * 900 + "1",
                        "__import__('os').system('true')"))  # fmt: skip
    kind = rng.choice(("<f8", "|O", "<U99999", "|V1000000000000", "<c16", "<M8[s]", ">f8", "f2"))
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"12345678"


def member(entries, rng, others):
    """Members of an archive changed, removed, doubled, renamed, compressed, inflated."""
    listed = list(entries.items())
    at = rng.randrange(len(listed))
    name, data = listed[at]
    kind = rng.randrange(8)
    if kind == 0:
        listed[at] = name, blind(data, rng, others) if data else b"x"
    elif kind == 1:
        del listed[at]
    elif kind == 2:
        listed.append((name, rng.choice(listed)[1]))
    elif kind == 3:
        listed[at] = rng.choice(("../x", "/etc/x", "a99.npy", name + "\0", "x" * 300)), data
    elif kind == 4:
        listed.append(("b.npy", bytes(rng.choice((1 << 10, 1 << 24)))))
        return zipped(listed, zipfile.ZIP_DEFLATED)
    elif kind == 5:
        listed[at] = name, pickle.dumps(Payload())
    elif kind == 6:
        out = bytearray(zipped(listed))
        place = out.index(b"PK\x01\x02")
        size = rng.choice((0xFFFFFFF0, 1 << 30, 0))
        out[place + 20 : place + 28] = struct.pack("<II", size, size)
        return bytes(out)
    else:
        out = io.BytesIO(zipped(listed))
        with zipfile.ZipFile(out, "a") as opened:
            opened.filelist *= 50
            opened.comment = b"again"
        return out.getvalue()
    return zipped(listed)


def arrays(data, rng, others):
    """A file of arrays, its checksum right again unless that is what was changed."""
    entries = entries_of(data)
    made = {n[:-4]: np.load(io.BytesIO(d), allow_pickle=False) for n, d in entries.items()}
    head = json.loads(made.pop("header").tobytes())
    kind = rng.random()
    if kind < 0.2:
        return member(entries, rng, others)
    if kind < 0.3:
        name = rng.choice(list(entries))
        gun = np.array([Payload()], dtype=object)
        armed = io.BytesIO()
        np.lib.format.write_array(armed, gun, allow_pickle=True)
        return zipped((entries | {name: rng.choice((claiming(rng), armed.getvalue()))}).items())
    if kind < 0.45 and made:
        name = rng.choice(list(made))
        array = made[name]
        made[name] = rng.choice([
            array[..., :-1] if array.ndim else array, array[None], array.astype(np.float32),
            array.astype(np.int64) if np.isfinite(array).all() else array, array * 0 - 1,
            np.full_like(array, 127), np.zeros(0), array.T, rng.choice(list(made.values())),
        ])  # fmt: skip
    body = head["body"]
    if kind >= 0.45:
        body = dumped(edited(json.loads(body), rng))
    out = io.BytesIO()
    archive.dump(out, rng.choice((1, 1, 1, 1, 1, 1, 1, 2)), body, made)
    return out.getvalue()


# ---- changes of files of torch


class Names:
    """Reducing it names a function that makes something large, or runs something."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def guns(rng):
    """Programs for a pickle: those that run, those that take memory."""
    import collections

    import torch

    huge = rng.choice((10**10, 10**15))
    storage = torch.zeros(1).untyped_storage()
    return rng.choice([
        Payload(), Names(eval, "1"), Names(bytearray, huge), Names(torch.zeros, huge),
        Names(torch._utils._rebuild_tensor_v2, storage, 0, (huge,), (1,), False,
              collections.OrderedDict()),
        Names(torch._utils._rebuild_tensor_v2, storage, 0, (huge,), (0,), False,
              collections.OrderedDict()),
        Names(collections.Counter, "aab"), Names(set, [1]), Names(torch.device, "cuda"),
        torch.zeros(3).expand(3, 3), torch.zeros(2, dtype=torch.complex64), {3: 4}, (1,) * 9,
    ])  # fmt: skip


def tensors(data, rng, others):
    """A file of torch.save with another tree, another pickle or other members."""
    import torch

    from bgs_opt.adapters import policy_file

    kind = rng.random()
    if kind < 0.3:
        return member(entries_of(data), rng, others)
    if kind < 0.4:
        entries = entries_of(data)
        name = next(n for n in entries if n.endswith("data.pkl"))
        changed = rng.choice((
            blind(entries[name], rng, others), pickle.dumps(Payload()),
            b"\x80\x02r\xff\xff\xff\x7f.", b"\x80\x02]" + b"q\x00h\x00\x86" * 99 + b".",
            b"\x80\x02" + b"]" * 100_000 + b".",
        ))  # fmt: skip
        return zipped((entries | {name: changed}).items())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.pt")
        path.write_bytes(data)
        tree = policy_file.load(path, "a file")
        if kind < 0.65:
            tree["bgs_opt"] = dumped(edited(json.loads(tree["bgs_opt"]), rng))
        elif kind < 0.75 and "training" in tree:
            run = arrays(tree["training"].numpy().tobytes(), rng, others)
            tree["training"] = torch.frombuffer(bytearray(run), dtype=torch.uint8)
        else:
            owner = tree
            while True:
                key = rng.choice(list(owner))
                if not (isinstance(owner[key], dict) and owner[key] and rng.random() < 0.9):
                    break
                owner = owner[key]
            part = owner[key]
            changes = [guns(rng), odd(rng), part]
            if isinstance(part, torch.Tensor):
                changes += [part.double(), part[None], part.new_zeros(7), part * float("nan"),
                            part.flatten()[:-1], part.to(torch.int8)]  # fmt: skip
            owner[rng.choice((key, key, key, "more"))] = rng.choice(changes)
        torch.save(tree, path)
        return path.read_bytes()


def safetensors(data, rng, others):
    """Another header: names, types, shapes, offsets, description."""
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    rest = data[8 + length :]
    if rng.random() < 0.5:
        head["__metadata__"]["bgs_opt"] = dumped(
            edited(json.loads(head["__metadata__"]["bgs_opt"]), rng)
        )
        text = json.dumps(head)
    else:
        text = dumped(edited(head, rng))
    size = rng.choice((len(text), len(text), len(text), 10**15, 0, len(text) + 1, 2**63))
    return struct.pack("<Q", size) + text.encode() + rest


def case(loader, number):
    """The file of a case."""
    _, _, good, suffix, _ = LOADERS[loader]
    rng = random.Random(f"{loader} {number}")
    files = good()
    data = files[number % len(files)]
    if not data or rng.random() < 0.01:
        return data
    if rng.random() < 0.5:
        return blind(data, rng, files)
    change = {".npz": arrays, ".pt": tensors, ".safetensors": safetensors}[suffix]
    return change(data, rng, files)


# ---- a case


def blame(error):
    """Whether it failed by a lack of memory, anywhere in the chain of causes."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def outcome(loader, number, folder, *, traced=False):
    """What came of a case, in one word; anything but "loaded" and "refused" is a fault."""
    load, use, _, suffix, _ = LOADERS[loader]
    with limited():
        data = case(loader, number)
    path = Path(folder, f"case{suffix}")
    path.write_bytes(data)
    heard = watch()
    if traced:
        tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with limited():
                with heard.within(folder):
                    loaded = load(path, number)
                peak = tracemalloc.get_traced_memory()[1] if traced else 0
                use(loaded)
        found = "loaded"
    except (CheckpointError, ArgumentValueError) as error:
        peak = tracemalloc.get_traced_memory()[1] if traced else 0
        found = f"memory: {error}" if blame(error) else "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        peak, found = 0, f"{type(error).__name__}: {error}"
    finally:
        if traced:
            tracemalloc.stop()
    if heard.heard:
        return f"ran: {heard.heard[:3]}"
    if peak > (32 << 20 if "train" in loader else 4 << 20) + 40 * len(data):
        return f"memory: {peak} bytes for a file of {len(data)}"
    return found


def shares(files):
    """How many cases each loader gets."""
    total = sum(loader[-1] for loader in LOADERS.values())
    return {name: -(-files * loader[-1] // total) for name, loader in LOADERS.items()}


@contextlib.contextmanager
def limited():
    """Within, the process may take SPARE bytes of address space more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + SPARE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def fuzzed(loader, numbers, folder, every=10):
    """Outcomes and the faults of cases; memory is traced in one of ``every``."""
    counts, faults = Counter(), []
    b"x".decode("cp437")  # a codec of zipfile's is imported on its first use
    load, use, good, suffix, _ = LOADERS[loader]
    for data in good():  # imports and caches first
        path = Path(folder, f"case{suffix}")
        path.write_bytes(data)
        with contextlib.suppress(CheckpointError, ArgumentValueError):
            for number in range(2):
                path.write_bytes(data)
                use(load(path, number))
    for number in numbers:
        found = outcome(loader, number, folder, traced=number % every == 0)
        counts[found if found in ("loaded", "refused") else "fault"] += 1
        if found not in ("loaded", "refused"):
            faults.append((loader, number, found))
    return counts, faults

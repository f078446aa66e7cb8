"""Genes in train(): who plays with which, how network and genes move by it, what is kept.

Rows 14 to 16 and bugs 20 to 25 of the list that test_upstream.py goes by; those that are the
pool's own (22 to 24) are in tests/test_gene_pool.py.
"""

import functools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from bgs_opt import BGS, GenePool, Options
from bgs_opt.adapters.policy import Actor, Evaluation, Genes, Policy, Rollout, train
from bgs_opt.errors import ArgumentTypeError, ArgumentValueError, NonFiniteValueWarning
from bgs_opt.streams import entropy_of
from tests.adapters.policies import Target, vector_of

ACTIONS = []  # of all steps, in the order of episodes where they are played one by one
LAST = Evaluation(every=0, episodes=1)
WISH = np.array([0.6, -0.8])


class Wishes(gymnasium.Env):
    """Pays for actions along a wish, the same in each of three steps; notes them."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float64)
    action_space = spaces.Box(-2.0, 2.0, (2,), np.float64)
    steps = 3

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array([0.5, 1.0]), {}

    def step(self, action):
        ACTIONS.append((self.count, np.array(action)))
        self.count += 1
        return np.array([0.5, 1.0]), float(action @ WISH), self.count == self.steps, False, {}


class Shown(torch.nn.Module):
    """Its gene, halved as actions reach from -2 to 2, and a trifle of its only parameter."""

    def __init__(self, weight=1e-9):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(2))
        self.weight = weight

    def forward(self, x, gene):
        return gene / 2 + self.weight * self.bias + 0 * x


class Mixed(torch.nn.Module):
    """A network that uses both; the gene by its name."""

    def __init__(self, gene=None):
        super().__init__()
        torch.manual_seed(0)
        self.line, self.mix = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        self.constant = gene

    def forward(self, x, gene):
        return self.mix(torch.tanh(self.line(x) + gene))


class Fixed(Mixed):
    """The same with a gene that it always had."""

    def forward(self, x):
        return super().forward(x, self.constant)


class Deaf(Mixed):
    """Has no use for a gene."""

    def forward(self, x, gene=None):
        return self.mix(torch.tanh(self.line(x)))


@pytest.fixture(autouse=True)
def _emptied():
    ACTIONS.clear()


def short(module=None, env=Wishes, **more):
    given = {"generations": 1, "num_directions": 3, "sigma": 0.1, "seed": 5, "evaluation": LAST,
             "rollout": Rollout(lanes=1)}  # fmt: skip
    return train(Shown() if module is None else module, env, **{**given, **more})


def pool_of(dim=2, genes=3, islands=2, **more):
    return GenePool(dim, genes, islands, **{"seed": 7, **more})


def acted(first=0):
    """Actions of each step, shape (episodes, steps, 2), from an episode on."""
    steps = [step for step, _ in ACTIONS]
    assert steps == list(range(Wishes.steps)) * (len(steps) // Wishes.steps)
    return np.array([action for _, action in ACTIONS]).reshape(-1, Wishes.steps, 2)[first:]


def same(first, second):
    np.testing.assert_array_equal(vector_of(first), vector_of(second))
    for name, column in second.history.items():
        if name != "seconds":
            np.testing.assert_array_equal(first.history[name], column)


# ---- one gene is none


@pytest.mark.parametrize("more", [
    {}, {"normalize": True}, {"sampler": "gaussian", "optimizer": "adam", "learning_rate": 0.02},
    {"options": Options(repeats=2, acceptance=0.3, center_evaluations=2)}, {"sigma": None},
], ids=["plain", "normalised", "adam", "acceptance", "found"])  # fmt: skip
@pytest.mark.parametrize("without", [Fixed, Deaf])
def test_one_gene_without_evolution_gives_the_bits_of_no_pool(without, more):
    pool = GenePool(4, 1, seed=2)
    gene = torch.tensor(pool.genes[0], dtype=torch.float32)
    given = {"generations": 4, "sigma": 0.3, "seed": 3, "evaluation": Evaluation(2, 3), **more}
    with_pool = Mixed() if without is Fixed else Deaf()
    first = train(with_pool, Target, genes=Genes(pool, evolve_every=0), **given)
    second = train(without(gene), Target, **given)
    assert np.unique(second.history["mean_return"]).size == 4
    same(first, second)


# ---- who plays with which


def test_every_candidate_is_played_with_every_gene():
    pool = pool_of()
    result = short(genes=Genes(pool, evolve_every=0))
    shown = acted()[:36]  # pairs, genes, ends
    assert result.episodes == 36
    due = np.broadcast_to(pool.genes[None, :, None], (3, 6, 2, 2)).reshape(36, 1, 2)
    np.testing.assert_allclose(shown, np.broadcast_to(due, shown.shape), atol=1e-6)


def test_a_share_of_the_genes_is_played_by_turns():
    pool = pool_of(genes=4)
    result = short(genes=Genes(pool, share=0.3, evolve_every=0), generations=8)
    shown = acted()[: 8 * 18, 0].reshape(8, 3, 3, 2, 2)
    places = np.linalg.norm(shown[..., None, :] - pool.genes, axis=-1).argmin(axis=-1)
    assert result.episodes == 8 * 18
    assert (places == places[:, :1, :, :1]).all()  # the same for all candidates
    turns = places[:, 0, :, 0]
    assert all(len(set(row)) == 3 for row in turns.tolist())
    for start in (0, 3):  # three generations of three play all eight genes, one of them twice
        counts = np.bincount(turns[start : start + 3].ravel(), minlength=8)
        assert sorted(counts) == [1] * 7 + [2]
    assert not np.array_equal(turns[0:3], turns[3:6])


def test_genes_of_one_repeat_play_the_same_episode():
    seeds = []

    class Seeded(Wishes):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            return super().reset(seed=seed)

    short(env=Seeded, genes=Genes(pool_of(), evolve_every=0), options=Options(repeats=2))
    played = np.array(seeds[-73:-1]).reshape(3, 2, 6, 2)  # pairs, repeats, genes, ends
    assert (played == played[:1, :, :1, :1]).all()
    assert len(np.unique(played)) == 2


def test_a_gene_follows_the_observation_where_the_network_does_not_name_it():
    torch.manual_seed(0)
    line = torch.nn.Linear(4, 2)
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[0.0, 0, 0.5, 0], [0, 0, 0, 0.5]]))
        line.bias.zero_()
    pool = pool_of()
    result = short(line, genes=Genes(pool, evolve_every=0), sigma=1e-9)
    np.testing.assert_allclose(
        acted()[:12, 0], np.tile(np.repeat(pool.genes, 2, axis=0), (1, 1)), atol=1e-6
    )
    assert not result.policy.takes_gene
    np.testing.assert_allclose(result.policy([0.5, 1.0], gene=4), pool.genes[4], atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "mlp", "actor"])
def test_a_named_policy_is_made_for_genes(kind):
    result = short(kind, env=Target, genes=pool_of(dim=5))
    one, other = (result.policy([0.1, 0.2, 0.3], gene=row) for row in np.eye(5)[:2])
    assert not np.array_equal(one, other)


# ---- how they move


def test_the_network_moves_by_the_mean_difference_over_genes():
    """As the core does with the values that each candidate has on the mean."""

    class Bias(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

        def forward(self, x, gene):
            return (gene.sum() * self.bias + self.bias**2) / 2

    pool = pool_of()
    given = {"num_directions": 4, "top_k": 2, "optimizer": "sgd", "learning_rate": 0.07,
             "selection": "difference"}  # fmt: skip
    result = short(Bias(), genes=Genes(pool, evolve_every=0), **given)
    core = BGS(np.zeros(2), 0.1, maximize=True, seed=entropy_of(5), **given)
    candidates = core.ask()
    sums = pool.genes.sum(axis=1)
    values = [np.mean([3 * (s * x + x**2) @ WISH for s in sums]) for x in candidates.x]
    core.tell(candidates, np.array(values))
    np.testing.assert_allclose(vector_of(result), core.center, rtol=1e-6)


def test_a_direction_must_hold_up_with_a_share_of_the_genes():
    """For half of the genes any move is better, for the other half worse: row 16."""

    class Split(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

        def forward(self, x, gene):
            first = self.bias[0]
            paid = torch.where(gene[0] > 0, 2.0, -1.0) * (first**2 + 1e-3 * first)
            return torch.stack([paid, 0 * paid])

    genes = np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    pool = GenePool(2, 4, seed=1)
    pool.move(genes)
    moved = {}
    for fraction in (0.5, 0.6):
        options = Options(acceptance=0.0, accept_fraction=fraction)
        result = short(Split(), genes=Genes(pool, evolve_every=0), options=options, sigma=0.2)
        moved[fraction] = np.abs(vector_of(result)).max()
    assert moved[0.5] > 0
    assert moved[0.6] == 0


def test_the_pool_that_is_given_evolves_by_mean_returns():
    """Row 14 and bug 21: a pool that was passed as an instance was not used."""
    pool, twin = pool_of(genes=4), pool_of(genes=4)
    result = short(genes=pool, generations=3)
    shown = acted()[: 3 * 48]
    returns = (shown @ WISH).sum(axis=1).reshape(3, 3, 8, 2)
    for told in returns.mean(axis=(1, 3)):
        twin.evolve(told)
    np.testing.assert_allclose(result.pool.genes, twin.genes, rtol=1e-6)
    assert result.pool.generation == 3
    np.testing.assert_array_equal(pool.genes, pool_of(genes=4).genes)  # it is a copy
    assert pool.generation == 0


@pytest.mark.parametrize(("after", "every", "generations"), [
    (0, 1, [1, 2, 3, 4, 5, 6]), (0, 2, [2, 4, 6]), (3, 1, [4, 5, 6]), (2, 3, [3, 6]), (0, 0, []),
])  # fmt: skip
def test_evolution_comes_after_and_every_so_many_generations(after, every, generations):
    """Row 16."""
    rows = []
    result = short(generations=6, log=rows.append,
                   genes=Genes(pool_of(), evolve_after=after, evolve_every=every))  # fmt: skip
    assert result.pool.generation == len(generations)
    diversity = [pool_of().diversity().overall] + [row["diversity"] for row in rows]
    changed = [number for number in range(1, 7) if diversity[number] != diversity[number - 1]]
    assert changed == generations


def test_evolution_waits_until_every_gene_was_played():
    result = short(generations=7, genes=Genes(pool_of(genes=4), share=0.3))
    assert result.pool.generation == 2  # after three generations each


def test_the_fitness_is_what_the_caller_makes_of_returns():
    """Row 16."""
    seen = []

    def worst(returns):
        seen.append(returns)
        return -float(returns.mean())

    pool = pool_of(genes=6, islands=1)
    result = short(genes=Genes(pool, fitness=worst))
    assert [len(returns) for returns in seen] == [6] * 6
    assert result.pool.fittest == (pool.genes @ WISH).argmin()


def test_genes_are_searched_by_pairs_of_their_own():
    """Row 15. Bug 20: noise that grew from step to step and was no pair. Bug 25: SGD at the
    rate of the network."""
    pool = pool_of(dim=2, genes=2, islands=1)
    result = short(genes=Genes(pool, sigma=0.02, evolve_every=0), top_k=3)
    shown = acted()[:12].reshape(3, 2, 2, 3, 2)  # pairs, genes, ends, steps
    assert (shown == shown[..., :1, :]).all()
    np.testing.assert_allclose(np.linalg.norm(shown, axis=-1), 1, rtol=1e-6)
    plus, minus = shown[:, :, 0, 0], shown[:, :, 1, 0]
    middle = plus + minus
    between = np.abs(middle[..., 0] * pool.genes[:, 1] - middle[..., 1] * pool.genes[:, 0])
    assert between.max() < 0.05 * np.abs(plus - minus).max()  # each pair lies about its gene
    assert len(np.unique(plus.round(6))) == plus.size

    rewards = 3 * np.stack([plus @ WISH, minus @ WISH])  # ends, pairs, genes
    for number, gene in enumerate(pool.genes):
        # (g + s e) / |g + s e| lies on the line through g + s e: that is where e is found
        ends = rewards[:, :, number]
        weights = (ends[0] - ends[1]) / (3 * np.std(ends))
        noise = []
        for high, low in zip(plus[:, number], minus[:, number], strict=True):
            a, b = np.linalg.solve(np.stack([high, low], axis=1), 2 * gene)  # a high + b low = 2 g
            noise.append((a * high - b * low) / (2 * 0.02))
        due = gene + 0.7 * 0.02 * np.array(weights) @ np.array(noise)
        got = result.pool.genes[number]
        np.testing.assert_allclose(got, due / np.linalg.norm(due), atol=2e-4)
        assert np.abs(got - gene).max() > 2e-3


def test_searched_genes_find_what_pays():
    pool = pool_of(genes=2, islands=1)
    result = short(genes=Genes(pool, sigma=0.1, evolve_every=0), generations=40)
    assert (result.pool.genes @ WISH > 0.99).all()
    assert (pool.genes @ WISH).min() < 0.9
    slower = Genes(pool, sigma=0.1, learning_rate=1e-6, evolve_every=0)
    np.testing.assert_allclose(
        short(genes=slower, generations=3).pool.genes, pool.genes, atol=1e-4
    )


def test_a_gene_that_fails_is_not_the_fittest():
    class Broken(Wishes):
        def step(self, action):
            seen, reward, *rest = super().step(action)
            return (seen, np.nan if action @ WISH > 0.5 else reward, *rest)

    pool = pool_of(genes=6, islands=1)
    fine = pool.genes @ WISH <= 0.5
    assert 0 < fine.sum() < 6
    with pytest.warns(NonFiniteValueWarning):
        result = short(env=Broken, genes=Genes(pool, sigma=0.01))
    assert fine[result.pool.fittest]
    assert np.isfinite(result.pool.genes).all()
    assert np.isfinite(vector_of(result)).all()


# ---- afterwards


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_policy_carries_its_genes(tmp_path, suffix):
    result = short("actor", env=Target, genes=pool_of(), generations=2)
    policy = result.policy
    assert policy.genes.shape == (6, 2)
    policy.save(tmp_path / f"policy{suffix}")
    again = Policy.load(tmp_path / f"policy{suffix}")
    x = np.array([0.1, -0.2, 0.3])
    for number in range(6):
        action = policy(x, gene=number)
        np.testing.assert_array_equal(again(x, gene=number), action)
        np.testing.assert_array_equal(policy(x, gene=policy.genes[number].numpy()), action)
    np.testing.assert_array_equal(policy(x), policy(x, gene=int(policy.fittest)))
    assert len({tuple(policy(x, gene=number)) for number in range(6)}) == 6


def test_the_evaluation_is_that_of_the_fittest_gene():
    result = short(genes=pool_of(), generations=3)
    np.testing.assert_allclose(
        result.evaluation, 3 * result.policy.genes[result.policy.fittest].numpy() @ WISH, rtol=1e-5
    )
    assert int(result.policy.fittest) == result.pool.fittest


def test_diversity_and_the_fitness_of_islands_are_logged():
    rows = []
    result = short(genes=pool_of(islands=3), generations=2, log=rows.append)
    assert [row["diversity"] for row in rows][-1] == result.pool.diversity().overall
    best = result.pool.island_fitness.best
    assert [rows[-1][f"fitness_{number}"] for number in range(3)] == best.tolist()
    assert result.history["fitness_2"][-1] == best[2]


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_a_run_that_is_resumed_has_the_bits_of_one_that_is_not(tmp_path, sigma):
    def run(generations, **more):
        genes = Genes(pool_of(dim=4, genes=4), share=0.6, sigma=sigma)
        return train(Mixed(), Target, genes=genes, generations=generations, sigma=0.2, seed=1,
                     evaluation=Evaluation(1, 2), **more)  # fmt: skip

    path = tmp_path / "run.pt"
    run(3, checkpoint=path)
    again, due = run(7, checkpoint=path, resume=True), run(7)
    same(again, due)
    np.testing.assert_array_equal(again.pool.genes, due.pool.genes)
    np.testing.assert_array_equal(again.policy.genes, due.policy.genes)
    assert again.pool.generation == due.pool.generation > 2


def test_worker_processes_give_the_same_bits():
    def run(**more):
        return train(Mixed(), Target, genes=Genes(pool_of(dim=4), sigma=0.1), generations=3,
                     sigma=0.2, seed=1, evaluation=Evaluation(1, 2), **more)  # fmt: skip

    first, second = run(), run(workers=2)
    same(first, second)
    np.testing.assert_array_equal(first.pool.genes, second.pool.genes)


def test_a_policy_with_memory_takes_genes_too():
    module = Actor(3, 2, width=8, memory=True, gene_size=2)
    result = short(module, env=Target, genes=pool_of(), generations=2)
    result.policy.reset()
    actions = [result.policy([0.1, 0.2, 0.3], gene=1) for _ in range(2)]
    assert not np.array_equal(*actions)


# ---- errors


@pytest.mark.parametrize(("changed", "message"), [
    ({"genes": "many"}, "genes: expected a GenePool, a Genes or None"),
    ({"genes": pool_of(dim=3), "module": Actor(2, 2, gene_size=5)}, "policy: expected a module"),
    ({"genes": pool_of(), "module": Actor(2, 2)}, "gene: expected None, as gene_size is 0"),
    ({"genes": pool_of(), "module": torch.nn.Linear(2, 2)}, "policy: expected a module"),
])  # fmt: skip
def test_what_does_not_fit_is_named(changed, message):
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=message):
        short(**changed)


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"pool": 3}, TypeError, "pool: expected a bgs_opt.GenePool"),
    ({"share": 0.0}, ValueError, "share: expected"), ({"share": 1.1}, ValueError, "share: exp"),
    ({"evolve_every": -1}, ValueError, "evolve_every: expected"),
    ({"evolve_after": 0.5}, TypeError, "evolve_after: expected"),
    ({"sigma": -1.0}, ValueError, "sigma: expected"),
    ({"learning_rate": "fast"}, TypeError, "learning_rate: expected"),
    ({"fitness": 3}, TypeError, "fitness: expected"),
])  # fmt: skip
def test_bad_options_are_named(given, error, message):
    with pytest.raises(error, match=message):
        Genes(**{"pool": pool_of(), **given})


def test_a_gene_that_is_not_there_is_named():
    policy = short(genes=pool_of()).policy
    for gene, message in ((6, "gene: expected"), (-1, "gene: expected"),
                          ([1.0, 2.0, 3.0], r"gene: expected shape \(2,\)")):  # fmt: skip
        with pytest.raises(ArgumentValueError, match=message):
            policy([0.5, 1.0], gene=gene)
    with pytest.raises(ArgumentValueError, match="gene: expected None"):
        Policy(torch.nn.Linear(2, 2), observation_shape=(2,))([0.5, 1.0], gene=0)


def test_a_run_with_another_pool_is_not_resumed(tmp_path):
    path = tmp_path / "run.pt"
    short(genes=pool_of(), checkpoint=path)
    again = functools.partial(short, generations=2, checkpoint=path, resume=True)
    for genes in (pool_of(genes=4), Genes(pool_of(), sigma=0.3), Genes(pool_of(), share=0.5)):
        with pytest.raises(ArgumentValueError, match="genes|repeats"):
            again(genes=genes)
    with pytest.raises(ArgumentValueError, match="genes: expected a pool"):
        again(Actor(2, 2), genes=None)
    assert again(genes=pool_of()).generations == 2

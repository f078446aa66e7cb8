"""Episodes of policies in environments of every interface, against loops written by hand."""

import importlib.util
import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from scipy import stats

from bgs_opt.adapters import gymnasium as arenas
from bgs_opt.adapters.gymnasium import Rollout, arena_of
from bgs_opt.adapters.gymnasium_spaces import (
    actions_of,
    known_scale,
    observation_shape,
    observed,
)

# ---- environments written here


class Line:
    """A point that moves by the action; the episode takes 3 to 5 steps, by its seed."""

    reward_of = float
    observation_of = staticmethod(np.array)

    def __init__(self):
        self.closed = 0

    def begin(self, seed):
        self.at = np.random.default_rng(seed).normal(size=2)
        self.left = 3 + seed % 3
        return self.observation_of(self.at)

    def move(self, action):
        self.at = self.at + action
        self.left -= 1
        return self.observation_of(self.at), self.reward_of(self.at.sum()), self.left == 0

    def reset(self, seed):
        return self.begin(seed)

    def step(self, action):
        return self.move(action)

    def close(self):
        self.closed += 1


class Bits(gymnasium.Env):
    """Observes zero; says what it was told to do."""

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, action_space, steps=1):
        self.action_space, self.steps, self.told = action_space, steps, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.steps
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.told.append(action)
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


WEIGHTS = np.random.default_rng(0).normal(size=(16, 2, 2)) / 4
SEEDS = [11, 3, 8, 40, 7, 5]


def linear(weights):
    """Each row by itself, so that no product of matrices can mix them or round otherwise."""
    return lambda observations, rows: np.stack(
        [weights[r] @ np.float64(o) for r, o in zip(rows, observations, strict=True)]
    )


def line_return(seed, weights):
    """The return of `Line`, without an environment."""
    at, total = np.random.default_rng(seed).normal(size=2), 0.0
    for _ in range(3 + seed % 3):
        at = at + weights @ np.float64(np.float32(at))
        total += at.sum()
    return total


LINE_RETURNS = [line_return(seed, w) for seed, w in zip(SEEDS, WEIGHTS, strict=False)]


# ---- actions


@pytest.mark.parametrize(("space", "outputs", "due"), [
    (spaces.Discrete(3), [0.1, 0.9, 0.2], 1),
    (spaces.Discrete(3, start=-4), [0.1, 0.9, 1.2], -2),
    (spaces.MultiDiscrete([2, 3]), [5, 1, 0.1, 0.9, 2], [0, 2]),
    (spaces.MultiDiscrete([2, 3], start=[7, -1]), [1, 5, 0, 0.9, 0.1], [8, 0]),
    (spaces.MultiDiscrete([[2, 3], [2, 2]]), [0, 1, 0, 0, 1, 1, 0, 0, 1], [[1, 2], [0, 1]]),
    (spaces.MultiBinary(3), [0.5, -0.5, 0.0], [1, 0, 0]),
    (spaces.MultiBinary([2, 2]), [0.5, -0.5, 3, -3], [[1, 0], [1, 0]]),
    (spaces.Box(-2, 2, (1,)), [0.25], [0.5]),
    (spaces.Box(np.float32([0, -1]), np.float32([10, 3])), [-0.5, 7], [2.5, 3]),
    (spaces.Box(-1, 1, (2, 2)), [0.1, 0.2, 0.3, -9], [[0.1, 0.2], [0.3, -1]]),
    (spaces.Box(-np.inf, np.inf, (2,)), [123, -0.5], [123, -0.5]),
    (spaces.Box(np.float32([0, -np.inf]), np.float32([np.inf, 1])), [-3, -5], [0, -5]),
    (spaces.Box(np.float32([0, -np.inf]), np.float32([np.inf, 1])), [42, 9], [42, 1]),
    (spaces.Box(-2, 2, (1,), np.float64), [1 / 3], [2 / 3]),
], ids=str)  # fmt: skip
def test_outputs_become_the_action_that_they_stand_for(space, outputs, due):
    actions = actions_of(space)
    assert actions.size == len(outputs)
    (got,) = actions(np.array([outputs], np.float64), None)
    assert np.allclose(got, due, atol=1e-6)
    assert np.shape(got) == space.shape
    assert space.contains(got)


def test_a_side_written_as_the_largest_number_is_open():
    largest = np.finfo(np.float32).max
    (action,) = actions_of(spaces.Box(-largest, largest, (1,)))(np.array([[0.5]]), None)
    assert action.tolist() == [0.5]


def test_every_action_that_is_made_or_drawn_lies_in_its_space():
    generator = np.random.default_rng(1)
    for space in (spaces.Discrete(4, start=2), spaces.MultiDiscrete([[2, 5], [3, 2]]),
                  spaces.MultiBinary((2, 3)), spaces.Box(-0.1, 0.7, (3, 2)),
                  spaces.Box(np.float32([0, -np.inf]), np.float32([np.inf, 0.3]))):  # fmt: skip
        for sample in (False, True):
            actions = actions_of(space, sample=sample)
            outputs = generator.normal(0, 3, (50, actions.size))
            streams = [np.random.default_rng(n) for n in range(50)] if sample else None
            for action in actions(outputs, streams):
                assert space.contains(action), (space, action)


def test_without_an_action_space_outputs_are_actions():
    actions = actions_of(None)
    assert actions.size is None
    assert [a.tolist() for a in actions(np.array([[3.5, -2.0]]), None)] == [[3.5, -2.0]]


def streams(count):
    return [np.random.default_rng((5, n)) for n in range(count)]


@pytest.mark.parametrize("start", [0, 3])
def test_drawn_choices_have_the_frequencies_of_the_softmax(start):
    logits, count = np.array([0.0, 1.0, -1.0, 2.0]), 4000
    actions = actions_of(spaces.Discrete(4, start=start), sample=True)
    drawn = np.array(actions(np.tile(logits, (count, 1)), streams(count))) - start
    expected = count * np.exp(logits) / np.exp(logits).sum()
    assert stats.chisquare(np.bincount(drawn, minlength=4), expected).pvalue > 0.01


def test_several_drawn_choices_are_independent_and_each_a_softmax():
    logits, count = np.array([0.0, 1.0, 0.5, -0.5, 0.0]), 4000
    actions = actions_of(spaces.MultiDiscrete([2, 3]), sample=True)
    drawn = np.array(actions(np.tile(logits, (count, 1)), streams(count)))
    first, second = (np.exp(x) / np.exp(x).sum() for x in (logits[:2], logits[2:]))
    table = np.zeros((2, 3))
    np.add.at(table, tuple(drawn.T), 1)
    expected = count * np.outer(first, second)
    assert stats.chisquare(table.ravel(), expected.ravel()).pvalue > 0.01


def test_drawn_switches_are_on_as_often_as_the_logistic_says():
    logits, count = np.array([0.0, 1.0, -2.0]), 4000
    actions = actions_of(spaces.MultiBinary(3), sample=True)
    drawn = np.array(actions(np.tile(logits, (count, 1)), streams(count)))
    for on, logit in zip(drawn.sum(axis=0), logits, strict=True):
        assert stats.binomtest(int(on), count, 1 / (1 + np.exp(-logit))).pvalue > 0.01


def test_drawn_numbers_have_the_mean_and_the_deviation_of_the_outputs():
    outputs, count = np.array([1.5, -0.5, np.log(0.3), np.log(2.0)]), 4000
    actions = actions_of(spaces.Box(-np.inf, np.inf, (2,), np.float64), sample=True)
    assert actions.size == 4
    drawn = np.array(actions(np.tile(outputs, (count, 1)), streams(count)))
    for column, mean, deviation in ((0, 1.5, 0.3), (1, -0.5, 2.0)):
        x = drawn[:, column]
        assert abs(x.mean() - mean) < 3 * deviation / np.sqrt(count)
        assert abs(x.std() / deviation - 1) < 3 / np.sqrt(2 * count)
        assert stats.kstest((x - mean) / deviation, "norm").pvalue > 0.01


def test_drawn_numbers_are_scaled_to_the_range_and_not_saturated():
    outputs, count = np.array([0.0, np.log(0.1)]), 2000
    actions = actions_of(spaces.Box(0, 10, (1,), np.float64), sample=True)
    drawn = np.array(actions(np.tile(outputs, (count, 1)), streams(count)))
    assert abs(drawn.mean() - 5) < 3 * 0.5 / np.sqrt(count)
    assert abs(drawn.std() / 0.5 - 1) < 3 / np.sqrt(2 * count)
    assert ((drawn > 0) & (drawn < 10)).all()


@pytest.mark.parametrize("space", [
    spaces.Discrete(3), spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(2),
    spaces.Box(-1, 1, (2,)),
], ids=str)  # fmt: skip
def test_greedy_episodes_draw_nothing_though_actions_are_drawn_else(space, monkeypatch):
    env = Bits(space, steps=30)
    arena = arena_of(env, Rollout(sample_actions=True))
    outputs = np.linspace(-0.3, 0.4, arena.actions.size)
    act = lambda observations, rows: np.tile(outputs, (len(rows), 1))  # noqa: E731
    arena.play(act, [3])
    assert len({np.asarray(told).tobytes() for told in env.told}) > 1
    env.told.clear()
    monkeypatch.setattr(np.random, "default_rng", None)
    arena.play(act, [3], greedy=True)
    (due,) = actions_of(space, sample=True)(outputs[None], None)
    assert len(env.told) == 30
    assert all(np.array_equal(told, due) for told in env.told)


@pytest.mark.parametrize(("space", "chosen"), [
    (spaces.Discrete(5), [4, 2]), (spaces.Discrete(5), [[4], [2]]),
    (spaces.MultiDiscrete([3, 3]), [[2, 1], [0, 2]]), (spaces.MultiBinary(2), [[1, 0], [0, 0]]),
    pytest.param(spaces.MultiDiscrete([3]), [[2], [1]]),
    pytest.param(spaces.MultiDiscrete([[2, 2], [2, 2]]), [[1, 0, 1, 1], [0, 0, 1, 0]]),
], ids=str)  # fmt: skip
def test_integers_of_a_policy_are_actions_already(space, chosen):
    made = []

    def env():
        made.append(Bits(space))
        return made[-1]

    arena = arena_of(env, Rollout(sample_actions=True))
    arena.play(lambda observations, rows: np.array(chosen)[rows], [1, 2])
    told = [env.told[0] for env in made if env.told]
    assert np.array_equal(told, np.array(chosen).reshape(2, *space.shape))
    assert all(space.contains(action) for action in told)


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Tuple([spaces.Discrete(2)]), "Discrete"],
                         ids=str)  # fmt: skip
def test_other_spaces_of_actions_are_refused(space):
    with pytest.raises(TypeError, match="action_space: expected Discrete, MultiDiscrete"):
        actions_of(space)


def test_drawing_without_an_action_space_is_refused():
    with pytest.raises(ValueError, match="sample_actions: expected False"):
        arena_of(Line, Rollout(sample_actions=True))


# ---- observations

PLAN = spaces.Dict({"where": spaces.Box(-1, 1, (2, 2)), "kind": spaces.Discrete(3, start=1)})


@pytest.mark.parametrize(("space", "observation", "due"), [
    (spaces.Box(-1, 1, (2,)), np.array([0.5, -1]), [0.5, -1]),
    (spaces.Box(-1, 1, (2,)), [0.5, -1], [0.5, -1]),
    (spaces.Box(-1, 1, (2,)), (np.float32(0.5), -1), [0.5, -1]),
    (spaces.Box(-1, 1, ()), np.float64(0.25), 0.25),
    (None, 3, 3.0),
    (None, np.float32(0.5), 0.5),
    (None, [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
    (spaces.Box(0, 255, (2, 2, 3), np.uint8), np.full((2, 2, 3), 200, np.uint8),
     np.full((2, 2, 3), 200.0)),
    (spaces.Discrete(4), 2, [0, 0, 1, 0]),
    (spaces.Discrete(4, start=-1), np.int64(-1), [1, 0, 0, 0]),
    (spaces.MultiDiscrete([2, 3]), np.array([1, 0]), [0, 1, 1, 0, 0]),
    (spaces.MultiBinary(3), np.array([1, 0, 1]), [1, 0, 1]),
    (PLAN, {"where": np.array([[0, 1], [0.5, 0]]), "kind": 3}, [0, 0, 1, 0, 1, 0.5, 0]),
    (spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (2,))]), (1, np.array([0.5, 0.25])),
     [0, 1, 0.5, 0.25]),
], ids=str)  # fmt: skip
def test_observations_become_arrays_of_numbers(space, observation, due):
    got = observed(observation, space)
    assert got.dtype == np.float32
    assert got.shape == np.shape(due)
    assert np.allclose(got, due)
    if space is not None:
        assert observation_shape(space) == got.shape


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="about tensors")
def test_tensors_of_environments_are_numbers_too():
    import torch

    given = torch.tensor([1.0, 2.5], requires_grad=True)
    assert observed(given, None).tolist() == [1.0, 2.5]
    assert observed(given, spaces.Box(-5, 5, (2,))).tolist() == [1.0, 2.5]

    class Tensors(Line):
        observation_of = reward_of = staticmethod(torch.tensor)

        def step(self, action):
            observation, reward, end = self.move(action)
            return observation, reward, torch.tensor([end])

    played = arena_of(Tensors).play(linear(WEIGHTS), SEEDS)
    assert np.allclose(played.returns, LINE_RETURNS, rtol=1e-6)


def test_what_is_no_numbers_is_refused_by_name():
    for space in (None, spaces.Box(-1, 1, (2,))):
        with pytest.raises(TypeError, match="observation: expected numbers; got str"):
            observed("left", space)
    with pytest.raises(TypeError, match="observation_space: expected a space that can be flat"):
        observation_shape(spaces.Sequence(spaces.Discrete(2)))


@pytest.mark.parametrize(("space", "known"), [
    (spaces.Box(-1, 1, (2,)), True), (spaces.Box(0, np.inf, (2,)), False),
    (spaces.Box(np.float32([-1, -3.4e38]), np.float32([1, 3.4e38])), False),
    (spaces.Discrete(3), True), (None, False),
], ids=str)  # fmt: skip
def test_a_scale_is_known_where_every_side_is_closed(space, known):
    assert known_scale(space) is known


# ---- what environments return

STEPS = {
    "reward, done": lambda o, r, end: (o, r, end),
    "a list": lambda o, r, end: [o, r, end],
    "done, info": lambda o, r, end: (o, r, end, {"lives": 3}),
    "done, no info": lambda o, r, end: (o, r, end, {}),
    "terminated, truncated": lambda o, r, end: (o, r, end, False),
    "truncated": lambda o, r, end: (o, r, False, np.bool_(end)),
    "terminated, five values": lambda o, r, end: (o, r, np.array([end]), False, {"lives": 3}),
    "truncated, five values": lambda o, r, end: (o, r, False, end, {"lives": 3}),
}  # fmt: skip


def seeded(self, seed):
    self.given = seed


RESETS = {
    "observation": {"reset": lambda self, seed: self.begin(seed)},
    "and info": {"reset": lambda self, seed=None, options=None: (self.begin(seed), {"a": 1})},
    "any keyword": {"reset": lambda self, **named: (self.begin(**named), {})},
    "seed()": {"seed": seeded, "reset": lambda self: self.begin(self.given)},
    "seed(), info": {"seed": seeded, "reset": lambda self: (self.begin(self.given), {})},
}


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("step", STEPS)
def test_every_form_of_step_and_reset_gives_the_same_returns(reset, step):
    parts = {"step": lambda self, action: STEPS[step](*self.move(action)), **RESETS[reset]}
    played = arena_of(type("Env", (Line,), parts)).play(linear(WEIGHTS), SEEDS)
    assert played.lengths.tolist() == [3 + seed % 3 for seed in SEEDS]
    assert np.allclose(played.returns, LINE_RETURNS, rtol=1e-6)


@pytest.mark.parametrize(
    "reward_of", [float, np.float32, lambda r: np.array([r])], ids=["float", "float32", "array"]
)
@pytest.mark.parametrize("observation_of", [np.array, list, tuple, np.float32])
def test_rewards_and_observations_may_be_of_any_kind(reward_of, observation_of):
    kinds = {"reward_of": staticmethod(reward_of), "observation_of": staticmethod(observation_of)}
    played = arena_of(type("Env", (Line,), kinds)).play(linear(WEIGHTS), SEEDS)
    assert np.allclose(played.returns, LINE_RETURNS, rtol=1e-5)


Endless = type("Endless", (Line,), {"step": lambda self, action: self.move(action)[:2]})


def test_two_values_are_an_episode_of_max_steps():
    played = arena_of(Endless, Rollout(max_steps=7)).play(lambda o, rows: 0 * o, SEEDS)
    starts = [np.random.default_rng(seed).normal(size=2).sum() for seed in SEEDS]
    assert played.lengths.tolist() == [7] * len(SEEDS)
    assert np.allclose(played.returns, 7 * np.array(starts))


def test_an_episode_without_end_is_a_named_error(monkeypatch):
    monkeypatch.setattr(arenas, "_ENDLESS", 20)
    with pytest.raises(ValueError, match="max_steps: expected an int"):
        arena_of(Endless).play(lambda o, rows: 0 * o, SEEDS)
    played = arena_of(Endless, Rollout(max_steps=50)).play(lambda o, rows: 0 * o, SEEDS)
    assert (played.lengths == 50).all()


def test_long_episodes_that_will_end_are_no_error(monkeypatch):
    monkeypatch.setattr(arenas, "_ENDLESS", 2)
    assert arena_of(Line).play(linear(WEIGHTS), SEEDS).lengths.min() >= 3


@pytest.mark.parametrize("values", [("observation",), (0, 1, 2, 3, 4, 5), 3.0, None])
def test_other_returns_of_step_are_a_named_error(values):
    env = type("Env", (Line,), {"step": lambda self, action: values})
    with pytest.raises(TypeError, match=r"env\.step: expected a tuple of 2 to 5 values"):
        arena_of(env).play(linear(WEIGHTS), SEEDS)


def test_an_episode_without_end_is_found_in_any_environment_of_a_list(monkeypatch):
    monkeypatch.setattr(arenas, "_ENDLESS", 20)
    calls = itertools.count()

    def act(observations, rows):
        if next(calls) > 200:
            raise RecursionError("it goes on without end")
        return 0 * observations

    with pytest.raises(ValueError, match="max_steps: expected an int"):
        arena_of([Line, Endless]).play(act, list(range(12)))


def test_a_wrapper_that_passes_keywords_on_is_seeded_by_its_method():
    class Older(Line):
        seed = seeded

        def reset(self):
            return self.begin(self.given)

    class Wrapper:
        def __init__(self):
            self.env = Older()

        def seed(self, seed):
            self.env.seed(seed)

        def reset(self, **named):
            return self.env.reset(**named)

        def step(self, action):
            return self.env.step(action)

    played = arena_of(Wrapper).play(linear(WEIGHTS), SEEDS)
    assert np.allclose(played.returns, LINE_RETURNS, rtol=1e-6)


def test_an_observation_of_two_parts_is_not_taken_for_one_and_its_info():
    parts = (1, {"at": np.array([0.5], np.float32)})
    space = spaces.Tuple([spaces.Discrete(2), spaces.Dict({"at": spaces.Box(-1, 1, (1,))})])
    env = type("Env", (), {"reset": lambda self: parts, "observation_space": space,
                           "step": lambda self, action: (parts, 1.0, True)})  # fmt: skip
    arena_of(env).play(lambda o, rows: o[:, [2]] if (o == [0, 1, 0.5]).all() else None, [1])


# ---- what is counted


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_max_steps_cuts_episodes(limit):
    played = arena_of(Line, Rollout(max_steps=limit)).play(linear(WEIGHTS), SEEDS)
    assert played.lengths.tolist() == [min(limit, 3 + seed % 3) for seed in SEEDS]


@pytest.mark.parametrize("shift", [0.0, 1.0, -0.5])
def test_a_shift_of_rewards_is_in_shaped_returns_alone(shift):
    played = arena_of(Line, Rollout(reward_shift=shift)).play(linear(WEIGHTS), SEEDS)
    lengths = np.array([3 + seed % 3 for seed in SEEDS])
    assert np.allclose(played.returns, LINE_RETURNS, rtol=1e-6)
    assert np.allclose(played.shaped, np.array(LINE_RETURNS) - shift * lengths, rtol=1e-6)


def noting(env_class, acted):
    """The same environment, that notes the observations that were acted on."""

    class Noting(env_class):
        def reset(self, *args, **named):
            came = super().reset(*args, **named)
            self.last = came[0] if isinstance(came, tuple) else came
            return came

        def step(self, action):
            acted.append(np.float32(self.last))
            came = super().step(action)
            self.last = came[0]
            return came

    return Noting


def check_moments(moments, acted):
    flat = np.reshape(acted, (len(acted), -1)).astype(np.float64)
    assert moments.count == len(acted)
    assert np.allclose(moments.mean, flat.mean(axis=0), rtol=1e-12)
    assert np.allclose(moments.variance, flat.var(axis=0), rtol=1e-10)


@pytest.mark.parametrize("lanes", [1, 6])
def test_moments_are_those_of_the_observations_acted_on(lanes):
    acted = []
    arena = arena_of(noting(CartPoleEnv, acted), Rollout(lanes=lanes))
    act = lambda o, rows: o[:, 1::2] * [2, 1]  # noqa: E731
    moments = [arena.play(act, SEEDS[at : at + lanes], observe=True).moments
               for at in range(0, 6, lanes)]  # fmt: skip
    whole = moments[0]
    for more in moments[1:]:
        whole = whole.merged(more)
    check_moments(whole, acted)
    assert len(acted) > 60


def test_the_last_observation_before_max_steps_is_not_acted_on():
    acted = []
    arena = arena_of(noting(Line, acted), Rollout(max_steps=4))
    check_moments(arena.play(linear(WEIGHTS), SEEDS, observe=True).moments, acted)


def test_an_observation_that_is_no_number_after_max_steps_is_of_no_account():
    due = arena_of(Line, Rollout(max_steps=2)).play(linear(WEIGHTS), [11, 40])
    got = arena_of(Broken, Rollout(max_steps=2)).play(linear(WEIGHTS), [11, 40])
    assert got.returns.tolist() == due.returns.tolist()


def test_moments_of_many_numbers_are_joined_on_the_way(monkeypatch):
    from bgs_opt.adapters import gymnasium_episodes

    monkeypatch.setattr(gymnasium_episodes, "_SEEN", 20)
    acted = []
    arena = arena_of(noting(CartPoleEnv, acted))
    check_moments(arena.play(lambda o, rows: o[:, :2], SEEDS, observe=True).moments, acted)


def test_moments_of_images_are_of_each_pixel():
    acted = []
    image = {"observation_of": staticmethod(lambda at: np.tile(at, (3, 1)))}
    arena = arena_of(noting(type("Images", (Line,), image), acted))
    assert arena.observation_shape == (3, 2)
    moments = arena.play(lambda o, rows: o[:, 0] / 9, SEEDS, observe=True).moments
    assert moments.mean.shape == (6,)
    check_moments(moments, acted)


def test_moments_are_gathered_only_when_asked_for():
    assert arena_of(Line).play(linear(WEIGHTS), SEEDS).moments is None


class Broken(Line):
    """From seeds of 40 on, observations go wrong in the second step."""

    def step(self, action):
        observation, reward, end = self.move(action)
        if self.seed >= 40 and self.left == 1 + self.seed % 3:
            observation = np.array([np.nan, 1.0]) if self.seed == 40 else np.array([0, np.inf])
        return observation, reward, end

    def reset(self, seed):
        self.seed = seed
        return self.begin(seed)


def test_an_observation_that_is_no_number_ends_the_episode_and_spoils_nothing():
    acted = []
    seeds = [11, 40, 8, 41]
    arena = arena_of(noting(Broken, acted))
    played = arena.play(linear(WEIGHTS), seeds, observe=True)
    fine = [0, 2]
    due = [line_return(seeds[n], WEIGHTS[n]) for n in fine]
    assert np.allclose(played.returns[fine], due, rtol=1e-6)
    assert np.isnan(played.returns[[1, 3]]).all()
    assert np.isnan(played.shaped[[1, 3]]).all()
    assert played.lengths.tolist() == [5, 2, 5, 2]
    assert np.isfinite(acted).all()
    check_moments(played.moments, acted)


def test_an_observation_that_is_no_number_after_the_end_is_of_no_account():
    class Ending(Line):
        def step(self, action):
            observation, reward, end = self.move(action)
            return observation * (np.nan if end else 1), reward, end

    played = arena_of(Ending).play(linear(WEIGHTS), SEEDS)
    assert np.allclose(played.returns, LINE_RETURNS, rtol=1e-6)


# ---- against gymnasium's own loop


def by_hand(name, seed, decide, **options):
    """One episode: what was observed before each step, and the sum of the rewards."""
    with gymnasium.make(name, **options) as env:
        observation, _ = env.reset(seed=seed)
        seen, total, over = [], 0.0, False
        while not over:
            seen.append(observation)
            observation, reward, terminated, truncated, _ = env.step(decide(observation))
            total += float(reward)
            over = terminated or truncated
        return seen, total


CART = np.random.default_rng(4).normal(size=(6, 2, 4))
PENDULUM = np.random.default_rng(4).normal(size=(6, 1, 3)) / 4


def recorded(act, seen):
    """The same policy, that notes what each row observed, until its episode is over or not."""

    def recording(observations, rows):
        for row, observation in zip(rows.tolist(), observations, strict=True):
            seen.setdefault(row, []).append(observation.copy())
        return act(observations, rows)

    return recording


@pytest.mark.parametrize(("name", "weights", "decide", "options"), [
    ("CartPole-v1", CART, lambda out: int(np.argmax(out)), {}),
    ("Pendulum-v1", PENDULUM, lambda out: np.float32(2 * np.clip(out, -1, 1)),
     {"max_episode_steps": 40}),
], ids=["discrete", "continuous"])  # fmt: skip
def test_episodes_are_those_of_a_loop_step_by_step(name, weights, decide, options):
    make = lambda: gymnasium.make(name, **options)  # noqa: E731
    arena, seen = arena_of(make), {}
    played = arena.play(recorded(linear(weights), seen), SEEDS, observe=True)
    everything = []
    for row, seed in enumerate(SEEDS):
        due, total = by_hand(name, seed, lambda o, w=weights[row]: decide(w @ np.float64(o)),
                             **options)  # fmt: skip
        assert played.lengths[row] == len(due)
        assert np.array_equal(seen[row][: len(due)], due)
        assert played.returns[row] == pytest.approx(total, rel=1e-12)
        everything += due
    check_moments(played.moments, everything)


class Told(gymnasium.Wrapper):
    """Notes the actions of each episode by its seed."""

    def __init__(self, notes):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.notes = notes

    def reset(self, *, seed=None, options=None):
        self.now = self.notes.setdefault(seed, [])
        self.now.clear()
        return self.env.reset(seed=seed)

    def step(self, action):
        self.now.append(action)
        return self.env.step(action)


def test_drawn_actions_are_of_the_episode_and_the_rest_is_the_environments():
    seeds, even, alone = list(range(40)), {}, {}
    act = lambda o, rows: np.tile([0.0, 0.4], (len(rows), 1))  # noqa: E731
    rollout = Rollout(sample_actions=True, lanes=40)
    played = arena_of(lambda: Told(even), rollout).play(act, seeds)
    single = arena_of(lambda: Told(alone), Rollout(sample_actions=True, lanes=1))
    for seed in seeds[:4]:
        single.play(act, [seed])
        assert alone[seed] == even[seed]
        rest = iter(even[seed])
        due, total = by_hand("CartPole-v1", seed, lambda o, rest=rest: next(rest))
        assert (total, len(due)) == (played.returns[seed], played.lengths[seed])
    drawn = list(itertools.chain.from_iterable(even.values()))
    assert stats.binomtest(sum(drawn), len(drawn), 1 / (1 + np.exp(-0.4))).pvalue > 0.01
    assert len({tuple(actions[:8]) for actions in even.values()}) > 20


# ---- lanes


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_an_episode_does_not_depend_on_lanes_or_neighbours(lanes, sample):
    rollout = Rollout(sample_actions=sample, lanes=6)
    whole = arena_of("CartPole-v1", rollout).play(linear(CART), SEEDS)
    arena = arena_of("CartPole-v1", Rollout(sample_actions=sample, lanes=lanes))
    order = np.array([4, 2, 5, 0, 1, 3])
    for chosen in np.array_split(order, np.arange(lanes, 6, lanes)):
        part = arena.play(linear(CART[chosen]), [SEEDS[n] for n in chosen])
        assert part.returns.tolist() == whole.returns[chosen].tolist()
        assert part.lengths.tolist() == whole.lengths[chosen].tolist()
    assert len(set(whole.returns)) > 3


def test_an_arena_can_be_played_again_and_gives_the_same():
    arena = arena_of("CartPole-v1", Rollout(lanes=6))
    first, second = (arena.play(linear(CART), SEEDS).returns.tolist() for _ in range(2))
    assert first == second
    assert arena.play(linear(CART[::-1]), SEEDS[::-1]).returns.tolist() == first[::-1]


@pytest.mark.parametrize("count", [0, 3])
def test_more_episodes_than_lanes_are_a_named_error(count):
    with pytest.raises(ValueError, match="seeds: expected 1 to 2 of them"):
        arena_of("CartPole-v1", Rollout(lanes=2)).play(linear(CART), SEEDS[:count])


@pytest.mark.parametrize("rollout", [
    Rollout(lanes=6), Rollout(lanes=6, max_steps=15), Rollout(lanes=6, sample_actions=True)
], ids=["whole", "cut", "drawn"])  # fmt: skip
@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("count", [6, 4])
def test_environments_in_step_give_what_separate_ones_give(mode, rollout, count):
    due = arena_of("CartPole-v1", rollout).play(linear(CART), SEEDS[:count], observe=True)
    env = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 6, autoreset_mode=mode)
    arena = arena_of(env, rollout)
    assert arena.lanes == 6
    for _ in range(2):  # what an episode left behind is of no account
        got = arena.play(linear(CART), SEEDS[:count], observe=True)
        assert got.returns.tolist() == due.returns.tolist()
        assert got.lengths.tolist() == due.lengths.tolist()
        assert got.moments.count == due.moments.count
        assert np.allclose(got.moments.variance, due.moments.variance, rtol=1e-12)
    arena.close()
    env.reset()  # it is the caller's, and still open
    env.close()


def test_environments_in_step_have_boxes_scaled_and_choices_flattened():
    make = lambda: gymnasium.make("Pendulum-v1", max_episode_steps=20)  # noqa: E731
    env = SyncVectorEnv([make] * 3)
    due = arena_of(make).play(linear(PENDULUM), SEEDS[:3])
    assert arena_of(env).play(linear(PENDULUM), SEEDS[:3]).returns.tolist() == due.returns.tolist()
    env.close()
    lake = SyncVectorEnv([lambda: gymnasium.make("FrozenLake-v1", is_slippery=False)] * 2)
    arena = arena_of(lake, Rollout(max_steps=6))
    assert arena.observation_shape == (16,)
    # down, down, right, right, down, right: the way to the goal of the 4 x 4 map
    way = {0: 1, 4: 1, 8: 2, 9: 2, 10: 1, 14: 2}
    table = np.eye(4)[[way.get(field, 0) for field in range(16)]]
    assert arena.play(lambda o, rows: o @ table, [1, 2]).returns.tolist() == [1, 1]
    lake.close()


# ---- several environments


class Pays(Line):
    """Each step pays a fixed sum, by which the environment is known."""

    def __init__(self, sum_):
        super().__init__()
        self.sum = sum_

    def step(self, action):
        observation, _, end = self.move(action)
        return observation, self.sum, end


def kinds_of(lanes, seeds):
    arena = arena_of([lambda: Pays(1.0), lambda: Pays(100.0)], Rollout(lanes=lanes))
    kinds = []
    for at in range(0, len(seeds), lanes):
        played = arena.play(lambda o, rows: 0 * o, seeds[at : at + lanes])
        kinds += (played.returns / played.lengths).tolist()
    return kinds


def test_the_environment_of_an_episode_follows_from_its_seed():
    seeds = list(range(200))
    kinds = kinds_of(16, seeds)
    assert set(kinds) == {1.0, 100.0}
    assert stats.binomtest(kinds.count(1.0), 200).pvalue > 0.01
    assert kinds_of(7, seeds) == kinds
    assert kinds_of(5, seeds[::-1]) == kinds[::-1]
    assert len(set(kinds_of(8, [13] * 8))) == 1


def space_of(observation_space, action_space):
    def make():
        env = Bits(action_space)
        env.observation_space = observation_space
        return env

    return make


BOX, ON = spaces.Box(-1, 1, (1,)), spaces.Dict({"on": spaces.Box(-1, 1, (1,))})
OFF = spaces.Dict({"on": spaces.Box(-1, 1, (1,)), "off": spaces.Discrete(2)})


@pytest.mark.parametrize(("name", "first", "second"), [
    ("observation_space", (BOX, spaces.Discrete(2)),
     (spaces.Box(-1, 1, (2,)), spaces.Discrete(2))),
    ("action_space", (BOX, spaces.Box(-1, 1, (1,))), (BOX, spaces.Box(-1, 1, (3,)))),
    pytest.param("action_space", (BOX, spaces.Discrete(2)), (BOX, spaces.Discrete(3))),
    pytest.param("action_space", (BOX, spaces.MultiDiscrete([2, 2])),
                 (BOX, spaces.MultiDiscrete([2, 3]))),
    pytest.param("action_space", (BOX, spaces.Discrete(2)), (BOX, spaces.Box(-1, 1, ()))),
    pytest.param("observation_space", (ON, spaces.Discrete(2)), (OFF, spaces.Discrete(2))),
    pytest.param("observation_space", (spaces.Discrete(3), spaces.Discrete(2)),
                 (spaces.Discrete(4), spaces.Discrete(2))),
], ids=str)  # fmt: skip
def test_environments_whose_spaces_differ_are_refused(name, first, second):
    with pytest.raises(ValueError, match=f"env: expected environments with the same {name}"):
        arena_of([space_of(*first), space_of(*second)])


# ---- what makes environments


def made_by_spec():
    env = gymnasium.make("CartPole-v1")
    env.close()
    return env


MAKERS = {
    "name": lambda: "CartPole-v1",
    "spec": lambda: gymnasium.spec("CartPole-v1"),
    "environment": made_by_spec,
    "function": lambda: lambda: gymnasium.make("CartPole-v1"),
    "class": lambda: CartPoleEnv,
    "object": CartPoleEnv,
    "list": lambda: ["CartPole-v1", CartPoleEnv],
}


@pytest.mark.parametrize("name", MAKERS)
def test_an_environment_may_be_given_in_any_way(name):
    arena = arena_of(MAKERS[name](), Rollout(lanes=3))
    assert arena.lanes == (1 if name == "object" else 3)
    assert (arena.observation_shape, arena.actions.size) == ((4,), 2)
    for at in range(0, 3, arena.lanes):
        chosen = slice(at, at + arena.lanes)
        played = arena.play(linear(CART[chosen]), SEEDS[chosen])
        for row, got in enumerate(played.returns, at):
            due = by_hand("CartPole-v1", SEEDS[row], lambda o, w=CART[row]: int(np.argmax(w @ o)))
            assert got == due[1]
    arena.close()


def test_wrappers_that_say_how_they_were_made_are_made_again():
    with gymnasium.wrappers.TimeAwareObservation(gymnasium.make("CartPole-v1")) as env:
        arena = arena_of(env, Rollout(lanes=3))
        assert (arena.lanes, arena.observation_shape) == (3, (5,))
        arena.play(lambda o, rows: o[:, :2], SEEDS[:3])
        arena.close()


class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


def test_an_environment_with_a_wrapper_that_cannot_be_made_again_is_played_as_it_is():
    with Doubled(gymnasium.make("CartPole-v1")) as env:
        arena = arena_of(env, Rollout(lanes=3))
        assert arena.lanes == 1
        played = arena.play(linear(CART), SEEDS[:1])
        assert played.returns[0] == 2 * played.lengths[0] > 0


def test_an_object_in_a_list_leaves_one_lane():
    assert arena_of(["CartPole-v1", CartPoleEnv()], Rollout(lanes=3)).lanes == 1


def test_by_default_a_space_that_is_not_there_is_learnt_from_a_reset():
    arena = arena_of(Line)
    assert arena.observation_shape == (2,)
    assert (arena.actions.size, arena.known_scale) == (None, False)


@pytest.mark.parametrize(("env", "error", "words"), [
    (3, TypeError, "env: expected the name of a registered environment"),
    (None, TypeError, "env: expected the name of a registered environment"),
    ([], ValueError, "env: expected at least one environment; got an empty list"),
    (object, TypeError, "env: expected an object with the method reset"),
    (type("NoStep", (), {"reset": lambda self: 0}), TypeError,
     "env: expected an object with the method step"),
    (type("NoReset", (), {"step": lambda self, action: 0})(), TypeError,
     "env: expected an object with the method reset"),
], ids=["number", "None", "empty", "nothing", "no step", "no reset"])  # fmt: skip
def test_what_is_no_environment_is_refused_by_name(env, error, words):
    with pytest.raises(error, match=words):
        arena_of(env)


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"max_steps": 0}, ValueError, "max_steps"), ({"max_steps": 2.5}, TypeError, "max_steps"),
    ({"reward_shift": np.nan}, ValueError, "reward_shift"),
    ({"sample_actions": 1}, TypeError, "sample_actions"),
    ({"lanes": 0}, ValueError, "lanes"), ({"lanes": "many"}, TypeError, "lanes"),
], ids=str)  # fmt: skip
def test_arguments_of_a_rollout_are_checked(options, error, words):
    with pytest.raises(error, match=f"{words}: expected"):
        Rollout(**options)


def test_a_rollout_must_be_one():
    with pytest.raises(TypeError, match="rollout: expected a Rollout; got"):
        arena_of("CartPole-v1", {"lanes": 2})


@pytest.mark.parametrize("outputs", [np.zeros((2, 3)), np.zeros(2), np.zeros((1, 2)),
                                     np.zeros((2, 2, 1))], ids=np.shape)  # fmt: skip
def test_outputs_of_another_shape_are_a_named_error(outputs):
    arena = arena_of("CartPole-v1")
    with pytest.raises(ValueError, match=r"policy: expected outputs of shape \(2, 2\).*; got"):
        arena.play(lambda o, rows: outputs, SEEDS[:2])


def test_chosen_actions_of_another_shape_are_a_named_error():
    arena = arena_of("CartPole-v1")
    with pytest.raises(ValueError, match="policy: expected"):
        arena.play(lambda o, rows: np.ones((len(rows), 3), int), SEEDS[:2])


def test_a_single_output_may_lack_its_axis():
    arena = arena_of(lambda: gymnasium.make("Pendulum-v1", max_episode_steps=5))
    flat = arena.play(lambda o, rows: linear(PENDULUM)(o, rows)[:, 0], SEEDS[:2])
    assert flat.returns.tolist() == arena.play(linear(PENDULUM), SEEDS[:2]).returns.tolist()


def test_closing_closes_every_environment_that_was_made():
    made = []

    def make():
        made.append(Line())
        return made[-1]

    arena = arena_of([make, make], Rollout(lanes=3))
    arena.play(linear(WEIGHTS), SEEDS[:3])
    assert len(made) > 2
    arena.close()
    assert [env.closed for env in made] == [1] * len(made)
    arena.close()
    assert [env.closed for env in made] == [1] * len(made)


def test_an_environment_without_close_is_left_alone():
    env = type("Env", (), {"reset": lambda self: 0.0, "step": lambda self, a: (0.0, 1.0, True)})()
    arena = arena_of(env)
    assert arena.play(lambda o, rows: o, [1]).returns.tolist() == [1.0]
    arena.close()

"""``bgs-opt train`` and ``bgs-opt play``: what they print, write and refuse."""

import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from bgs_opt import GenePool, Options
from bgs_opt.adapters.policy import Policy, train
from bgs_opt.adapters.policy_pictures import film, plot_training
from bgs_opt.cli import main

SHORT = ["train", "CartPole-v1", "--generations", "2", "--seed", "1", "--evaluation-episodes", "2"]


class Seen(gymnasium.Env):
    """Has pictures of a known color, without a library that draws."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012
    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode=None, steps=3):
        self.render_mode, self.steps = render_mode, steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.zeros(2, np.float32), 1.0, self.count == self.steps, False, {}

    def render(self):
        return np.full((30, 60, 3), (250, 60 * self.count, 0), np.uint8)


@pytest.fixture(autouse=True)
def _registered():
    gymnasium.register("TestSeen-v0", Seen)
    yield
    del gymnasium.registry["TestSeen-v0"]


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def go(words, code=0):
        assert main(words.split() if isinstance(words, str) else words) == code
        return capsys.readouterr()

    return go


def test_training_prints_what_came_of_it_and_is_train(run):
    facts = json.loads(run([*SHORT, "--json"]).out)
    from bgs_opt.adapters.policy import Evaluation

    result = train("linear", "CartPole-v1", generations=2, seed=1, evaluation=Evaluation(4, 2))
    assert facts["evaluation"] == result.evaluation
    assert (facts["episodes"], facts["steps"]) == (result.episodes, result.steps)
    assert facts["reason"] == "generations"
    assert "evaluation" in run(SHORT).out
    assert run([*SHORT, "--quiet"]).out == ""


def test_every_option_reaches_train(run, monkeypatch):
    from bgs_opt.adapters import policy_cli

    seen = {}

    def recorded(policy, env, **given):
        seen.update(given, policy=policy, env=env)
        return train("linear", "CartPole-v1", generations=1, seed=1)

    monkeypatch.setattr(policy_cli, "train", recorded)
    run("train CartPole-v1 --env-option sutton_barto_reward=True --policy mlp --policy-option "
        "hidden=[4] --episodes 5 --max-time 9 --target 3 --directions 4 --top-k 2 --sigma 0.5 "
        "--learning-rate 0.1 --optimizer adam --selection difference --repeats 3 --option "
        "acceptance=0.5 --option sampler=gaussian --seed 7 --normalize --max-steps 11 "
        "--reward-shift 1 --sample-actions --lanes 2 --workers 3 --timeout 5 --device cpu "
        "--compile --evaluate-every 3 --evaluation-episodes 6 --checkpoint-seconds 8 "
        "--log logs --genes 4 --islands 2 --gene-size 3 --gene-option share=0.5 --gene-option "
        "num_elites=2")  # fmt: skip
    genes = seen["genes"]
    np.testing.assert_array_equal(genes.pool.genes, GenePool(3, 4, 2, seed=7).genes)
    assert (genes.share, genes.pool.state_dict()["num_elites"]) == (0.5, 2)
    assert seen["env"].kwargs["sutton_barto_reward"] is True
    assert seen["policy"] == "mlp"
    assert seen["policy_options"] == {"hidden": [4]}
    expected = {
        "episodes": 5, "max_time": 9.0, "target": 3.0, "num_directions": 4, "top_k": 2,
        "sigma": 0.5, "learning_rate": 0.1, "optimizer": "adam", "selection": "difference",
        "sampler": "gaussian", "seed": 7, "normalize": True, "workers": 3, "timeout": 5.0,
        "device": "cpu", "compile": True, "checkpoint_seconds": 8.0, "log": "logs",
    }  # fmt: skip
    assert {name: seen[name] for name in expected} == expected
    options, rollout, evaluation = seen["options"], seen["rollout"], seen["evaluation"]
    assert options == Options(repeats=3, acceptance=0.5)  # common seeds as train() has them
    assert (rollout.max_steps, rollout.reward_shift, rollout.lanes) == (11, 1.0, 2)
    assert rollout.sample_actions
    assert (evaluation.every, evaluation.episodes) == (3, 6)


def test_a_checkpoint_is_resumed_and_played(run):
    run([*SHORT, "--checkpoint", "a.pt"])
    assert "--resume" in run([*SHORT, "--checkpoint", "a.pt"], code=2).err
    words = [word if word != "2" else "3" for word in SHORT[:4]] + SHORT[4:]
    facts = json.loads(run([*words, "--checkpoint", "a.pt", "--resume", "--json"]).out)
    assert facts["generations"] == 3
    played = json.loads(run("play a.pt --episodes 3 --seed 5 --json").out)
    policy, env, returns = Policy.load("a.pt"), gymnasium.make("CartPole-v1"), []
    for seed in (5, 6, 7):
        (observation, _), total, over = env.reset(seed=seed), 0.0, False
        while not over:
            observation, reward, ended, cut, _ = env.step(policy(observation))
            total, over = total + reward, ended or cut
        returns.append(total)
    assert played["returns"] == returns
    assert "mean return" in run("play a.pt --episodes 1").out


def test_genes_are_trained_and_played(run):
    run([*SHORT, "--genes", "3", "--gene-size", "2", "--output", "p.pt"])
    returns = []
    for gene in ("", *(f"--gene {number}" for number in range(3))):
        returns.append(json.loads(run(f"play p.pt --episodes 2 {gene} --json").out)["returns"])
    policy = Policy.load("p.pt")
    assert policy.genes.shape == (3, 2)
    assert returns[0] == returns[1 + int(policy.fittest)]
    for words, message in (("--gene 3", "--gene"), ("--gene -1", "gene")):
        assert message in run(f"play p.pt {words}", code=2).err
    run([*SHORT, "--output", "none.pt"])
    assert "--gene: expected a policy with genes" in run("play none.pt --gene 0", code=2).err
    assert "--islands: expected it with --genes" in run([*SHORT, "--islands", "2"], code=2).err
    assert "--genes: expected" in run([*SHORT, "--genes", "0"], code=2).err
    assert "--gene-option" in run([*SHORT, "--genes", "3", "--gene-option", "size=2"], code=2).err


def test_the_policy_is_written_and_played_elsewhere(run, tmp_path):
    run([*SHORT, "--output", "p.safetensors"])
    assert json.loads(run("play p.safetensors --episodes 1 --max-steps 4 --json").out)["best"] == 4
    words = (
        "play p.safetensors --env CartPole-v1 --env-option sutton_barto_reward=True --episodes 1"
    )
    assert json.loads(run(f"{words} --max-steps 2 --json").out)["best"] == 0


def test_pictures_show_what_they_should(run, tmp_path):
    words = SHORT[2:]
    run(
        ["train", "TestSeen-v0", *words, "--plot", "a.png", "--video", "a.gif", "--output", "p.pt"]
    )
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 400
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 3
        greens = []
        for frame in range(3):
            picture.seek(frame)
            red, green, _ = picture.convert("RGB").getpixel((9, 9))
            greens.append(green)
            assert red > 240
    assert np.allclose(greens, [0, 60, 120], atol=10)
    run("play p.pt --episodes 1 --video b.gif")
    assert (tmp_path / "b.gif").exists()


def test_a_film_needs_pictures(tmp_path):
    policy = train("linear", Seen, generations=1, seed=1, sigma=0.1).policy
    with pytest.raises(ValueError, match="env: expected an environment made with render_mode"):
        film(policy, Seen(), tmp_path / "a.gif")
    assert film(policy, Seen("rgb_array", 5), tmp_path / "a.gif", max_steps=4) == 4


def test_the_learning_curve_has_the_numbers_of_the_history():
    history = train("linear", "CartPole-v1", generations=8, seed=1).history
    mean, evaluation = plot_training(history, title="x").axes[0].get_lines()
    np.testing.assert_array_equal(mean.get_ydata(), history["mean_return"])
    there = np.isfinite(history["evaluation"])
    np.testing.assert_array_equal(evaluation.get_xdata(), history["episodes"][there])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train", "ENV_ID"),
        ("train Nowhere-v1", "Nowhere"),
        ("train CartPole-v1 --directions 0", "--directions: expected an int"),
        ("train CartPole-v1 --direction 3", "--direction"),
        ("train CartPole-v1 --evaluate-every -1", "--evaluate-every: expected"),
        ("train CartPole-v1 --policy cnn", "--policy: expected one of linear, mlp, actor"),
        ("train CartPole-v1 --policy-option x", "--policy-option: expected NAME=VALUE"),
        ("train CartPole-v1 --option nonsense=1", "nonsense: expected one of"),
        ("train CartPole-v1 --normalize --no-normalize", "--normalize: expected it without"),
        ("train CartPole-v1 --plot a.xyz", "--plot"),
        ("train CartPole-v1 --resume", "--resume: expected --checkpoint FILE, the run to go on"),
        ("train CartPole-v1 --video a.mp4", r"--video: expected a .gif"),
        ("train CartPole-v1 --output no/such/folder.pt", "--output: expected a file in a folder"),
        ("play nothing.pt", "FILE: expected what train"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_option(run, words, message):
    err = run(words, code=2).err
    assert message in err
    assert err.count("\n") == 1


def test_a_file_that_names_a_module_to_import_is_not_followed(run, tmp_path):
    """gymnasium imports what stands before the colon of an id."""
    policy = train("linear", "CartPole-v1", generations=1, seed=1).policy
    policy.env = {"id": "os:CartPole-v1", "kwargs": {}}
    policy.save(tmp_path / "p.pt")
    assert "--env: expected it, as the file names" in run("play p.pt", code=2).err
    policy.env = None
    policy.save(tmp_path / "p.pt")
    assert "--env: expected the environment" in run("play p.pt", code=2).err
    (tmp_path / "text.pt").write_text("no policy")
    assert "expected a policy of bgs_opt" in run("play text.pt", code=1).err


def test_without_torch_the_command_says_what_to_install():
    program = (
        "import sys\nsys.modules['torch'] = None\nfrom bgs_opt.cli import main\n"
        "sys.exit(main(['train', 'CartPole-v1']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'bgs-opt[policy]'" in done.stderr

"""Train a network whose hidden units are sign(): no gradient exists anywhere.

    python docs/examples/digits_binary_network.py [--generations 300] [--seed 0] [--out FILE.png]

The data are scikit-learn's 1,797 handwritten digits (8 x 8 pixels; 1,200 for training). The loss
is the cross-entropy on a fresh minibatch each generation, so it is noisy as well. BGS sees one
number for each of the 128 networks it asks about in a generation, and nothing else.
"""

import argparse

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

from bgs_opt import BGS, Options

mpl.use("Agg")
import matplotlib.pyplot as plt

PIXELS, HIDDEN, CLASSES = 64, 24, 10
SHAPES = ((PIXELS, HIDDEN), (1, HIDDEN), (HIDDEN, CLASSES), (1, CLASSES))
BATCH = 256


def logits(x, images):
    """Outputs of n networks: x (n, d), images (m, 64) -> (n, m, 10)."""
    ends = np.cumsum([rows * columns for rows, columns in SHAPES])
    pieces = np.split(x, ends[:-1], axis=1)
    w1, b1, w2, b2 = (p.reshape(-1, *shape) for p, shape in zip(pieces, SHAPES, strict=True))
    hidden = np.sign(images @ w1 + b1)
    return hidden @ w2 + b2


def losses(x, images, labels):
    """Mean cross-entropy of each network, shape (n,)."""
    z = logits(x, images)
    z -= z.max(axis=2, keepdims=True)
    correct = z[:, np.arange(len(labels)), labels]
    return (np.log(np.exp(z).sum(axis=2)) - correct).mean(axis=1)


def accuracy(x, images, labels):
    """Share of right answers of one network."""
    return float((logits(x[None], images)[0].argmax(axis=1) == labels).mean())


def load():
    """Training images and labels, held-out images and labels; the same split for every seed."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 8 - 1).astype(np.float32)  # grey levels 0..16 become -1..1
    order = np.random.default_rng(0).permutation(len(images))
    return tuple(part[rows] for rows in (order[:1200], order[1200:]) for part in (images, labels))


def train(generations, seed, images, labels, test_images, test_labels):
    """Return the trained parameters and the learning curve: evaluations, loss, accuracy."""
    rng = np.random.default_rng(seed)
    x0 = rng.normal(0, 0.1, sum(rows * columns for rows, columns in SHAPES)).astype(np.float32)
    opt = BGS(
        x0,
        sigma=0.1,
        num_directions=64,
        top_k=64,
        optimizer="adam",
        learning_rate=0.02,
        seed=seed,
        options=Options(reward_scale="rank", weight_decay=0.003, averaging=0.95),
    )
    curve = []
    with tqdm(total=generations, unit="gen") as bar:
        while opt.generation < generations:
            batch = rng.choice(len(images), BATCH, replace=False)
            candidates = opt.ask()  # 128 networks: center + and - 64 directions
            opt.tell(candidates, losses(candidates.x, images[batch], labels[batch]))
            bar.update()
            if opt.generation % 10 == 0 or opt.generation == generations:
                loss = losses(opt.average[None], images, labels)[0]
                score = accuracy(opt.average, test_images, test_labels)
                curve.append((opt.num_evaluations, loss, score))
                bar.set_postfix_str(f"training loss {loss:.3f}, held-out accuracy {score:.3f}")
    return opt.average, np.array(curve)


def draw(path, x, curve, images, labels):
    """Learning curve on the left, held-out digits with the predicted labels on the right."""
    figure = plt.figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    axes = left.subplots()
    axes.set(xlabel="networks evaluated", ylabel="training loss", title="Learning curve")
    axes.set_ylim(0, 1.05 * curve[:, 1].max())
    axes.grid(alpha=0.3)
    lines = axes.plot(curve[:, 0], curve[:, 1], color="tab:blue", label="training loss (left)")
    second = axes.twinx()
    second.set(ylabel="held-out accuracy", ylim=(0, 1))
    words = f"held-out accuracy (right), {curve[-1, 2]:.1%} at the end"
    lines += second.plot(curve[:, 0], curve[:, 2], color="tab:orange", label=words)
    axes.legend(handles=lines, loc="center right")

    right.suptitle("Held-out digits and predicted labels (wrong ones in red)")
    predicted = logits(x[None], images)[0].argmax(axis=1)
    cells = right.subplots(6, 10).flat
    for cell, image, label, guess in zip(cells, images, labels, predicted, strict=False):
        cell.imshow(image.reshape(8, 8), cmap="gray_r")
        wrong = guess != label
        words = f"{guess}, not {label}" if wrong else str(guess)
        cell.set_title(words, fontsize=9, color="red" if wrong else "black", pad=2)
        cell.set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    """Train, print the result, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generations", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="digits_binary_network.png", help="picture to write")
    options = parser.parse_args()

    images, labels, test_images, test_labels = load()
    x, curve = train(options.generations, options.seed, images, labels, test_images, test_labels)
    evaluations, loss, score = curve[-1]
    print(f"{evaluations:.0f} networks evaluated, {len(x)} parameters, {HIDDEN} sign() units")
    print(f"training loss {loss:.3f}")
    print(f"held-out accuracy {score:.3f}")
    draw(options.out, x, curve, test_images, test_labels)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()

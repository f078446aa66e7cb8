"""Book-keeping of a generation against a slow model, and the thinning of the history."""

import numpy as np
import pytest

from bgs_opt import BGS, state
from bgs_opt.state import ASKED, DISCARDED, HISTORY, TOLD, Generation, State, record_history


def generation(num_center=0, target=3, repeats=1):
    return Generation(
        number=0, sigma=0.1, num_center=num_center, target=target, repeats=repeats,
        center=np.zeros(2), probe=None,
    )  # fmt: skip


class Model:
    """The same in sets and dictionaries."""

    def __init__(self, num_center, target, repeats) -> None:
        self.num_center, self.target, self.repeats = num_center, target, repeats
        self.out, self.told, self.lost, self.asked = set(), {}, set(), 0

    def pair(self, slot):
        return (slot - self.num_center) // (2 * self.repeats) if slot >= self.num_center else None

    def hand_out(self, count):
        self.out |= set(range(self.asked, self.asked + count))
        self.asked += count

    @property
    def resolved(self):
        settled = [self.pair(s) for s in (*self.told, *self.lost)]
        return sum(settled.count(p) == 2 * self.repeats for p in set(settled) - {None})

    @property
    def needed(self):
        return max(0, self.num_center + 2 * self.repeats * self.target - self.asked)

    @property
    def complete(self):
        centers = set(range(self.num_center))
        return centers <= {*self.told, *self.lost} and self.resolved >= self.target


@pytest.mark.parametrize("num_center", [0, 1, 3])
@pytest.mark.parametrize("repeats", [1, 2, 3])
@pytest.mark.parametrize("target", [0, 1, 4])
def test_a_generation_keeps_the_books_of_a_slow_model(num_center, repeats, target):
    for seed in range(4):
        random = np.random.default_rng([num_center, repeats, target, seed])
        ours, model = generation(num_center, target, repeats), Model(num_center, target, repeats)
        for _ in range(40):
            if not model.out or random.random() < 0.3:
                count = (
                    int(random.integers(1, 6)) if random.random() < 0.7 else max(1, ours.needed)
                )
                slots = ours.hand_out(count)
                assert slots.tolist() == list(range(model.asked, model.asked + count))
                model.hand_out(count)
            else:
                size = int(random.integers(1, len(model.out) + 1))
                slots = np.sort(random.permutation(sorted(model.out))[:size])
                model.out -= set(slots.tolist())
                if random.random() < 0.8:
                    values = random.normal(size=size)
                    ours.settle(slots, values)
                    model.told |= dict(zip(slots.tolist(), values.tolist(), strict=True))
                else:
                    ours.settle(slots, None)
                    model.lost |= set(slots.tolist())
            assert ours.asked == model.asked
            assert ours.needed == model.needed
            assert ours.resolved == model.resolved
            assert ours.complete == model.complete
            assert ours.spent == len(model.told)
            assert ours.outstanding().tolist() == sorted(model.out)
            assert all(ours.values[s] == v for s, v in model.told.items())
            assert {int(s) for s in np.flatnonzero(ours.status == TOLD)} == set(model.told)
            assert {int(s) for s in np.flatnonzero(ours.status == DISCARDED)} == model.lost


def test_asking_one_at_a_time_costs_no_more_room_than_asking_for_all():
    whole, single = generation(target=100), generation(target=100)
    whole.hand_out(200)
    for _ in range(200):
        single.hand_out(1)
    assert len(single.values) == len(whole.values) == 200
    assert (single.status == ASKED).all()


# ---- the history


def fill(generations):
    made = State(center=np.zeros(1), sigma=1.0, open=generation())
    largest = 0
    for number in generations:
        record_history(made, (float(number), *[number + 0.5] * (len(HISTORY) - 1)))
        largest = max(largest, len(made.history))
    return made.history[: made.history_rows], made.history_stride, largest


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 4095, 4096])
def test_a_short_history_is_complete(count):
    rows, stride, _ = fill(range(count))
    assert stride == 1
    assert rows[:, 0].tolist() == list(range(count))
    assert (rows[:, 1:] == rows[:, :1] + 0.5).all()


@pytest.mark.parametrize("count", [4097, 8192, 8193, 20_000, 40_000])
def test_a_long_history_keeps_every_second_fourth_eighth_row(count):
    rows, stride, largest = fill(range(count))
    kept = rows[:, 0].astype(int)
    assert kept.tolist() == list(range(0, count, stride))
    assert stride == 2 ** int(np.ceil(np.log2(count / 4096)))
    assert 2048 <= len(rows) <= 4096
    assert largest == 4096
    assert (rows[:, 1:] == rows[:, :1] + 0.5).all()


def test_the_room_for_the_history_grows_with_it():
    _, _, largest = fill(range(20))
    assert largest == 32


def test_a_run_shows_its_thinned_history_by_name(monkeypatch):
    monkeypatch.setattr(state, "_HISTORY_ROWS", 64)
    opt = BGS([1.0], 0.1, num_directions=1, seed=0)
    for _ in range(70):
        opt.tell(opt.ask(), [0.0, 0.0])
    history = opt.history
    assert tuple(history) == HISTORY
    assert history["generation"].tolist() == list(range(0, 70, 2))
    assert history["evaluations"].tolist() == list(range(2, 142, 4))
    assert opt.generation == 70

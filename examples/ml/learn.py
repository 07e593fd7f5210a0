"""Softmax regression in plain Python: prepare, train, evaluate; a step of iris.yaml is one call."""

import csv
import json
import math
import random  # noqa: TID251 - an example stands outside the house
import sys
from pathlib import Path

Rows = list[list[float]]


def prepare(source: str, target: str) -> None:
    """Read the table, shuffle it with a fixed seed, scale it, keep a third for the evaluation."""
    with Path(source).open(encoding="utf-8") as file:
        _, *table = csv.reader(file)
    random.Random(7).shuffle(table)  # noqa: S311 - the same split every time, no secret
    names = sorted({row[-1] for row in table})
    rows = scaled([list(map(float, row[:-1])) for row in table])
    labels = [names.index(row[-1]) for row in table]
    split = len(rows) * 2 // 3
    write(
        target,
        {
            "names": names,
            "train": {"rows": rows[:split], "labels": labels[:split]},
            "test": {"rows": rows[split:], "labels": labels[split:]},
        },
    )
    write("rows.json", len(rows))
    print(f"{len(rows)} flowers of {len(names)} species, {split} to learn from")


def scaled(rows: Rows) -> Rows:
    """Bring each column to mean 0 and deviation 1; a last column of ones takes the bias."""
    columns = list(zip(*rows, strict=True))
    means = [sum(column) / len(column) for column in columns]
    widths = [
        math.sqrt(sum((x - mean) ** 2 for x in column) / len(column))
        for column, mean in zip(columns, means, strict=True)
    ]
    return [
        [*((x - m) / w for x, m, w in zip(row, means, widths, strict=True)), 1.0] for row in rows
    ]


def chances(weights: Rows, row: list[float]) -> list[float]:
    scores = [sum(w * x for w, x in zip(one, row, strict=True)) for one in weights]
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def train(source: str, target: str, rate: str, rounds: str) -> None:
    """Find the weights by gradient descent."""
    data = json.loads(Path(source).read_text(encoding="utf-8"))
    rows, labels = data["train"]["rows"], data["train"]["labels"]
    weights = [[0.0] * len(rows[0]) for _ in data["names"]]
    for _ in range(int(rounds)):
        guessed = [chances(weights, row) for row in rows]
        for label, one in enumerate(weights):
            for column in range(len(one)):
                slope = sum(
                    (guess[label] - (truth == label)) * row[column]
                    for guess, truth, row in zip(guessed, labels, rows, strict=True)
                )
                one[column] -= float(rate) * slope / len(rows)
    loss = -sum(
        math.log(chances(weights, row)[truth]) for row, truth in zip(rows, labels, strict=True)
    ) / len(rows)
    write(target, weights)
    write("loss.json", round(loss, 4))
    print(f"loss {loss:.4f} after {rounds} rounds")


def evaluate(source: str, model: str) -> None:
    """Count what the model gets right among flowers that it has never seen."""
    data = json.loads(Path(source).read_text(encoding="utf-8"))
    weights = json.loads(Path(model).read_text(encoding="utf-8"))
    rows, labels = data["test"]["rows"], data["test"]["labels"]
    right = 0
    for row, truth in zip(rows, labels, strict=True):
        guess = chances(weights, row)
        right += guess.index(max(guess)) == truth
    write("accuracy.json", round(right / len(rows), 4))
    print(f"{right} of {len(rows)} right")


def write(path: str, value: object) -> None:
    Path(path).write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    {"prepare": prepare, "train": train, "evaluate": evaluate}[sys.argv[1]](*sys.argv[2:])

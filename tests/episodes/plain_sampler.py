"""The sampler written a second time, from its description: one episode at a time, in Python's own integers.

Nothing of the package is used, so that agreement means that both are right (or wrong in the same way).
"""

from dataclasses import dataclass

WAY, SHOT, CLASSES, PICTURES, BALANCE = range(5)


def bits(*keys: int) -> int:
    state = 0x243F6A8885A308D3
    for key in keys:
        z = (state + (key % 2**64 + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        state = z ^ z >> 31
    return state


def below(bound: int, *keys: int) -> int:
    return bits(*keys) * bound >> 64


def permutation(size: int, *keys: int) -> list[int]:
    places = list(range(size))
    for j in range(size):
        word = bits(*keys, j // 2)
        half = word % 2**32 if j % 2 else word >> 32
        k = j + (half * (size - j) >> 32)
        places[j], places[k] = places[k], places[j]
    return places


@dataclass
class PlainEpisode:
    classes: list[int]
    support: list[int]
    support_labels: list[int]
    query: list[int]
    query_labels: list[int]


@dataclass
class PlainSampler:
    rows: list[list[int]]  # of each class
    ways: tuple[int, int]
    shots: tuple[int, int]
    queries: int
    seed: int
    max_shots: int
    shots_per_class: bool = False
    alpha: float | None = None

    def episode(self, i: int) -> PlainEpisode:
        eligible = [c for c, rows in enumerate(self.rows) if len(rows) >= self.max_shots + self.queries]
        ways = self.ways[0] + below(self.ways[1] - self.ways[0] + 1, self.seed, i, WAY)
        classes = [eligible[k] for k in permutation(len(eligible), self.seed, i, CLASSES)[:ways]]
        made = PlainEpisode(classes, [], [], [], [])
        for label, (c, count) in enumerate(zip(classes, self.query_counts(i, classes), strict=True)):
            key = (self.seed, i, SHOT, c) if self.shots_per_class else (self.seed, i, SHOT)
            shots = self.shots[0] + below(self.shots[1] - self.shots[0] + 1, *key)
            order = [self.rows[c][k] for k in permutation(len(self.rows[c]), self.seed, i, PICTURES, c)]
            support = order[self.queries : self.queries + shots]
            query = (order[: self.queries] + order[self.queries + self.max_shots :])[:count]
            made.support += support
            made.support_labels += [label] * len(support)
            made.query += query
            made.query_labels += [label] * len(query)
        return made

    def query_counts(self, i: int, classes: list[int]) -> list[int]:
        if self.alpha is None:
            return [self.queries] * len(classes)
        counts = [0] * len(classes)
        for drawn in range(self.queries * len(classes)):
            weights = [round(self.alpha * 4096) + 4096 * count for count in counts]
            point, chosen = below(sum(weights), self.seed, i, BALANCE, drawn), 0
            while point >= weights[chosen]:
                point -= weights[chosen]
                chosen += 1
            if counts[chosen] == len(self.rows[classes[chosen]]) - self.max_shots:
                break
            counts[chosen] += 1
        return counts

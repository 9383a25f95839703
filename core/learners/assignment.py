"""The linear assignment problem, compiled: which permutation of columns costs least.

Shortest augmenting paths with potentials (Jonker and Volgenant 1987, "A shortest augmenting path
algorithm for dense and sparse linear assignment problems"). `scipy.optimize` solves the same, three
times slower for the 16 by 16 problems that a training step has by the dozen.

Axes: P problems, n rows and columns, d coordinates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from luceloop.core.compiled import compiled

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Vectors = np.ndarray[Any, np.dtype[np.float32]]

FEW = 8
"""Coordinates below which a loop multiplies faster than a library."""
SCANNED = 1e300
"""Added to the distance of a column that a search has done with."""


@compiled
def couple_all(noise: Vectors, data: Vectors, coupled: Vectors, start: int, stop: int) -> None:
    """Reorder noise so that, of problems `start` to `stop`, summed products with data are largest.

    Args:
        noise: `(P, n, d)`.
        data: `(P, n, d)`.
        coupled: where noise is written in the order of its data `(P, n, d)`.
        start: the first problem.
        stop: the problem to stop before.
    """
    n, dim = noise.shape[1:]
    cost, partner = np.empty((n, n)), np.empty(n, np.int64)
    for p in range(start, stop):
        _negative_products(data[p], noise[p], cost)
        assign(cost, partner)
        for i in range(n):
            for c in range(dim):
                coupled[p, i, c] = noise[p, partner[i], c]


@compiled
def _negative_products(left: Vectors, right: Vectors, cost: Floats) -> None:
    n, dim = left.shape
    if dim <= FEW:
        for i in range(n):
            for j in range(n):
                product = np.float32(0)
                for c in range(dim):
                    product += left[i, c] * right[j, c]
                cost[i, j] = -product
    else:
        cost[:] = -np.dot(left, right.T)


@compiled
def assign(cost: Floats, partner: Integers) -> None:
    """Solve one problem.

    Args:
        cost: `(n, n)`, finite.
        partner: where each row's column is written `(n,)`.
    """
    n = cost.shape[0]
    owner = np.empty(n, np.int64)
    row_price, column_price = np.empty(n), np.empty(n)
    _begin(cost, partner, owner, row_price, column_price)
    distance, scanned, before = np.empty(n), np.empty(n), np.empty(n, np.int64)
    for free in range(n):
        if partner[free] >= 0:
            continue
        # Dijkstra's search over columns, along reduced costs, for one that is free.
        for j in range(n):
            distance[j] = cost[free, j] - row_price[free] - column_price[j]
            before[j], scanned[j] = free, 0.0
        while True:
            nearest = distance[0] + scanned[0]
            for j in range(1, n):
                nearest = min(nearest, distance[j] + scanned[j])
            column = 0
            while distance[column] + scanned[column] != nearest:
                column += 1
            row = owner[column]
            if row < 0:
                break
            scanned[column] = SCANNED
            offset = nearest - (cost[row, column] - column_price[column])
            for j in range(n):
                through = offset + cost[row, j] - column_price[j]
                if through < distance[j] and scanned[j] == 0.0:
                    distance[j] = through
                    before[j] = row
        row_price[free] += nearest
        for j in range(n):
            if scanned[j] > 0.0:
                column_price[j] += distance[j] - nearest
                row_price[owner[j]] -= distance[j] - nearest
        while True:  # back along the path, every row takes the column it was reached from
            row = before[column]
            owner[column] = row
            partner[row], column = column, partner[row]
            if row == free:
                break


@compiled
def _begin(
    cost: Floats, partner: Integers, owner: Integers, row_price: Floats, column_price: Floats
) -> None:
    """Prices that leave no cost negative, and partners at no cost, as far as first come reaches."""
    n = cost.shape[0]
    for i in range(n):
        least = cost[i, 0]
        for j in range(1, n):
            least = min(least, cost[i, j])
        row_price[i], partner[i], owner[i] = least, -1, -1
    for j in range(n):
        column_price[j] = cost[0, j] - row_price[0]
    for i in range(1, n):
        for j in range(n):
            column_price[j] = min(column_price[j], cost[i, j] - row_price[i])
    for i in range(n):
        for j in range(n):
            if owner[j] < 0 and cost[i, j] - row_price[i] == column_price[j]:
                owner[j], partner[i] = i, j
                break

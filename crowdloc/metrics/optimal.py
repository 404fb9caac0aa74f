"""Which detections match which heads if as many as possible are to match: the rule of NWPU and FIDTM.

Greedy matching (`matching`) lets the detection with the higher score take the nearest head, even the only one that
another detection reaches. Here no score is asked: of all one-to-one matchings within the radius one with the most pairs
is taken, and of those one with the least sum of distances, so that the pairs are the plausible ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def optimal_holders(
    detection: NDArray[np.int64],
    head: NDArray[np.int64],
    squared: NDArray[np.float64],
    num_detections: int,
    num_heads: int,
) -> NDArray[np.int64]:
    """The detection of every head (num_heads,); `num_detections` stands for none.

    Args:
        detection, head, squared: the pairs that may match, with their squared distances.

    Groups of detections and heads that no pair connects are solved one by one: a crowd of thousands then is many small
    tables instead of one that fills the memory.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and few need it
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    holder = np.full(num_heads, num_detections, dtype=np.int64)
    nodes = num_detections + num_heads
    graph = coo_array((np.ones(len(head)), (detection, num_detections + head)), shape=(nodes, nodes))
    group = connected_components(graph, directed=False)[1][detection]
    by_group = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[by_group], prepend=-1))
    for pairs in np.split(by_group, starts[1:]):
        if len(pairs) == 1:
            holder[head[pairs]] = detection[pairs]
        elif len(pairs):
            rows, row = np.unique(detection[pairs], return_inverse=True)
            columns, column = np.unique(head[pairs], return_inverse=True)
            gain = np.zeros((len(rows), len(columns)))  # of leaving a detection or head alone
            distance = np.sqrt(squared[pairs])
            # One pair more is worth more than all that distances can add up to.
            gain[row, column] = min(gain.shape) + 1 - distance / (distance.max() or 1.0)
            matched = [(r, c) for r, c in zip(*linear_sum_assignment(gain, maximize=True), strict=True) if gain[r, c]]
            for r, c in matched:
                holder[columns[c]] = rows[r]
    return holder

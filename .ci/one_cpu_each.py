"""A pytest plugin: each of pytest-xdist's workers computes on a CPU of its own.

Else each of two would take both, and they would wait for each other, step by step.
"""

import os

if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    there = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {there[int(worker.removeprefix("gw")) % len(there)]})

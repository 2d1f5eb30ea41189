"""The workload in this package as others do it: whole updates, and the whole table trained."""

from here import main

from fedlab_helpers.core import wire

if __name__ == "__main__":
    main(wire.dense())

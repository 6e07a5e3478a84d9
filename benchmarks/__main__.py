"""python -m benchmarks: how long a large net takes to start and to run, and how fast sound files become batches."""

from benchmarks import data, net

if __name__ == "__main__":
    net.main()
    data.main()

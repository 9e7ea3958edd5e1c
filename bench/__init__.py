"""What is measured: `up` beside a script that does the same (`bench.up`), and the ways to a model (`bench.path`)."""

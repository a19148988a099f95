"""Several workers on hosts of their own: throughput, turns, cost, cut links, and how many GPUs a day of jobs needs."""

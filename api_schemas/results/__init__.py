"""What is measured and said of a job: metrics, widths, events, estimates, and how they are read."""

"""What is above the tabs of a job: its outcome, the timeline while it runs, what to do after a failure."""

"""Brings a job's inputs into its folder: uploads, models and datasets of the hub, models in buckets."""

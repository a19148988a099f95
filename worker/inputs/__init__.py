"""What a job needs, brought into its folder: uploads, models and datasets of the hub, models in buckets."""

"""What runs: checks, post-commit pipelines and deploys. Knows nothing of a queue; imports neither gate nor hooks."""

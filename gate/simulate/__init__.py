"""Drives the shipped planner with a virtual clock and simulated workers, over queues that are drawn from a seed."""

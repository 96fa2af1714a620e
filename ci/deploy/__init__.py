"""Deploys from trunk: environment after environment, wave after wave."""

"""Importing this module begins to watch the process. Programs import it before everything else of the project."""

from experiments.code.loading import watch

watch()

"""The running process: interrupts, memory, process identity, progress output, retries, and redaction of credentials.

May import `experiments.training`, because the progress output shows epochs. Put facts about the running process here.
"""

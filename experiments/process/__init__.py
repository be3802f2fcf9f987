"""The running process: interrupts, process identity, retries, hashes of files, and redaction of credentials.

May import no other room. Put facts about the running process here.
"""

"""The running process: interrupts, identity, presence, retries, hashes of files, and redaction of credentials.

May import no other room. Put facts about the running process here.
"""

"""The running process: interrupts, identity, presence, retries, and redaction of credentials.

May import no other room. Put facts about the running process here.
"""

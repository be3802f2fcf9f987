"""Who executes a sweep's trials: worker processes of this machine, or a Ray cluster."""

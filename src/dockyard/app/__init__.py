"""What the user wrote: the configuration, what can be detected, and which files count."""

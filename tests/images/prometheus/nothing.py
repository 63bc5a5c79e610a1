"""Nothing: a project of Dockyard has at least one file."""

"""From a project to an image: decide (plan), then reach out (execute), then deliver (sinks)."""

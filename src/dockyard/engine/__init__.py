"""Running containers: what is asked of an engine, and the engines that can do it."""

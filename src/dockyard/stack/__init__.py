"""From an app to the services around it: Compose files, written, read, and run by Compose."""

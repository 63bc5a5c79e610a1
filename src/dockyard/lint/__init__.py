"""What is wrong with a Dockerfile and the project around it, what it costs, and what to do."""

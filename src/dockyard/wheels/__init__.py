"""The Python packaging specifications: requirements, locks, wheels and their installation."""

"""GPUs: which there are, who holds which, and how an engine hands them to a container.

Rules: `devices` are the nouns, `inventory` asks the driver, `leases` keeps who holds what, `choose`
decides and touches nothing, `grant` ties them together around a container's start.
"""

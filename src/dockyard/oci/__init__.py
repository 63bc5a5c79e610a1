"""The OCI image specification: digests, descriptors, manifests, configs, layers, layouts."""

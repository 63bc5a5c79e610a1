"""What fills an image: by layer, package, folder and kind, and the share that could go."""

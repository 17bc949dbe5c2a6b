"""What several detectors are built of. Parts know nothing of the detectors that use them."""

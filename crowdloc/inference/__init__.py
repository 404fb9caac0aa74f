"""From a trained network and images to predictions."""

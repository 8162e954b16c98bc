"""The Inception-I3D network, its weights, and its training."""

"""A carbon-aware Kubernetes scheduler: where and when a pod runs follows the carbon intensity of electricity."""

__version__ = "0.1.0"

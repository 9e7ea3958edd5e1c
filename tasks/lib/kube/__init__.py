"""What is done with a Kubernetes API: apply, wait, remember, remove. Knows no component."""

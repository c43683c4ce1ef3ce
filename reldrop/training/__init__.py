"""Training: the step, the hooks around it, and what is measured along the way."""

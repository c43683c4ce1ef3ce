"""Training: the step (trainer), the hooks around it, what is measured along the way, and what puts a run together (run)."""

from reldrop.training.config import MonitorConfig, TrainerConfig

__all__ = ["MonitorConfig", "TrainerConfig"]

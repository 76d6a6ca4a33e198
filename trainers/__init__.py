"""Rollouts, warm start, critic training, REFINER training and their evaluation."""

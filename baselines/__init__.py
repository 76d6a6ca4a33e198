"""What REFINER is compared with: TRL PPO, and supervised training at equal tokens."""

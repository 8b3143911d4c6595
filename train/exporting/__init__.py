"""Models that leave the house: folders that answer without the trainer."""

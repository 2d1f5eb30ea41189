"""How the notebooks mark an exercise: each check takes an answer and says what to think about."""

"""What the commands do: a recipe to a front, a front to a trained, evaluated, exported pair."""

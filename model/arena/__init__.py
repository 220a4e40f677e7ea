"""The Music Arena experiment: do scores predict which clip listeners prefer?"""

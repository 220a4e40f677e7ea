"""The phases of an attack, one module each."""

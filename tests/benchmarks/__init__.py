"""The measurements run, and lose no figures."""

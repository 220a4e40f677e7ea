"""Where uploaded audio is kept until its job is over."""

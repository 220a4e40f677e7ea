"""The HTTP front end: it accepts, remembers and answers. It never imports torch and never decodes audio."""

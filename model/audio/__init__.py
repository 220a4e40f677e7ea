"""Audio: from an untrusted file to segments of 24 kHz mono samples."""

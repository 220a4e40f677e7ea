"""What the API and the workers share: settings, storage, job records, problems. Knows no web framework."""

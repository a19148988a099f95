"""What the API takes and answers: resources, errors, keys, webhooks."""

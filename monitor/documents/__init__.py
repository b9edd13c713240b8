"""What there is to say of each subject, as plain dictionaries: the API tells them as JSON, the pages as HTML."""

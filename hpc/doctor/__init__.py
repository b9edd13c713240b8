"""What a machine, its images and its cluster have and lack: findings, each with what is wanted and how to mend it."""

"""What brings a day to a target outside: rsync (over ssh, or into a folder), or a mover such as Globus."""

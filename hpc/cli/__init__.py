"""The commands, one file each; heavy imports happen inside the command that needs them."""

"""The widgets of the workbench, one a file, each with its own default style."""

"""The screens of the workbench, each with its .tcss beside it."""
